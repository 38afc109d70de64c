"""What the SQL databases share."""

"""The SQL core: what all SQL databases share. Start reading at ``dialect.py``."""

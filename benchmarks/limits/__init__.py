"""What the storage underneath can do when written by hand: one file a storage."""

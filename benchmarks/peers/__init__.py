"""Other session stores, used as their own documentation recommends: one file per store."""

"""Sessions in an SQLite file, on apsw."""

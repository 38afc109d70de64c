"""The limit of each storage, reached by hand-written code: one file per storage."""

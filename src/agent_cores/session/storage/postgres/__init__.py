"""Sessions in PostgreSQL, on asyncpg."""

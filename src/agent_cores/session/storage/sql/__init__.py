"""The SQL core: what every database that speaks SQL shares. ``dialect.py`` is where to begin."""

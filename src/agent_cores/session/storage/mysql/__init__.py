"""Sessions in MySQL and MariaDB."""

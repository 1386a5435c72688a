"""Column types of MySQL and MariaDB, and the values in them."""

"""Column types of PostgreSQL, and the values in them."""

"""Copies of a database to PostgreSQL: the schema that pg_dump describes, and rows in the text of the server."""

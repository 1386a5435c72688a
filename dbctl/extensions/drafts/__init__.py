"""Draft a profile from the live schema and a bounded sample of the rows of a database."""

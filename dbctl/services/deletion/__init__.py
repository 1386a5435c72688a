"""Deletion of rows with the rows that depend on them, also in other databases of the app."""

"""Dumps of PostgreSQL that dbctl did not create, loaded by a role with limited rights."""

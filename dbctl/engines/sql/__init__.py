"""Shared code of the SQL engines: query builder, staging, digests, full text."""

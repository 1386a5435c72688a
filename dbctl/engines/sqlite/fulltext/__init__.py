"""FTS5: search and maintenance of full-text indexes."""

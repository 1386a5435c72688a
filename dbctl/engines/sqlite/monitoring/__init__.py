"""Statistics and maintenance of a SQLite file: sizes, indexes, free pages, vacuum."""

"""SQLite: readers open the file read-only, and every write is one immediate transaction."""

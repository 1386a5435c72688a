"""SQLite: what is meant for reading is never opened for writing, and every write is one immediate transaction."""

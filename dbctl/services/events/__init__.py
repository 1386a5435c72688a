"""The event store: runs, changes, samples, sent notices and the progress of fleets, in one SQLite file."""

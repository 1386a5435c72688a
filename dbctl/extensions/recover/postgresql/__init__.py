"""Recovery of PostgreSQL from a physical copy and the segments of its log."""

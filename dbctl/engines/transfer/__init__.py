"""What transfers share on all SQL engines: derivation of schemas, rows as lines, texts of values, and the lock of writes."""

"""Places that store backups, independent of databases."""

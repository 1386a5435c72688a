"""An opened app: its databases, users table, changes, audit, secrets, validation."""

"""Users of an app: list, create, update, delete, import, lockout, the last admin."""

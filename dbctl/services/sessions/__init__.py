"""Sessions of users, and cleanup of expired rows."""

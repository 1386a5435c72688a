"""Rules for rows, checked by every command that writes rows."""

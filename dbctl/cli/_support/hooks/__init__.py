"""Actions with hooks and maintenance mode."""

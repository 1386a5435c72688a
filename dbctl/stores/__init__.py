"""Where backups rest; knows nothing of databases."""

"""Backup of MySQL and MariaDB: dump, load, restore target, client programs."""

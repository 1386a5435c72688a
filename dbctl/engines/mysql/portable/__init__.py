"""Schemas of MySQL and MariaDB for other engines, and derived from other engines."""

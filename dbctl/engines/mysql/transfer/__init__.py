"""Rows of MySQL and MariaDB as lines that are equal on every engine."""

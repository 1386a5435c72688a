"""Rows of any table: query, edit, import, export."""

"""Samples of the sizes, rows, users and figures of databases over time, and their growth."""

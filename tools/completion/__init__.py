"""Completion files for shells, generated from the command tree."""

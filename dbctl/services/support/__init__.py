"""Data for bug reports: versions, and a bundle without secrets."""

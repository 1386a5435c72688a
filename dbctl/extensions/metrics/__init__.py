"""Metrics of databases, backups and runs, for Prometheus."""

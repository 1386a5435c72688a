"""Migrations: status, up, down, baseline, lint, rehearse, drift, repair."""

"""Profiles: inventory, and checks of a profile against a live database."""

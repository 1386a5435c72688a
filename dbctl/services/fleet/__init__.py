"""Fleets: one command on many instances of an app."""

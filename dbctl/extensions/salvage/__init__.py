"""The salvage of damaged databases: ``restore recover``."""

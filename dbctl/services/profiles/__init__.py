"""The inventory of profiles."""

"""Profiles that are installed from a file or an address, compared with a digest."""

"""Checks of apps: of their deployment, of their stored data, and of the profile against both."""

"""Fleets: apps with many instances, their list, and the form of their status."""

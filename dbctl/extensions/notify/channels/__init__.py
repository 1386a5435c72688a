"""Channels: services and servers that receive notices."""

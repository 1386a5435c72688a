"""Backups that dbctl did not create: detection, verification, adoption."""

"""Profiles: their model and loader, and the codecs and formats that they may name."""

"""Embedders: services, programs and packages that compute vectors of text."""

"""Administer the databases of self-hosted applications."""

__version__ = "0.1.0"

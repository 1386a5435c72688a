"""Administer the databases of self-hosted applications."""

__version__ = "0.2.0"

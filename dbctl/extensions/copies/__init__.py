"""Copies of apps for staging and development, with pseudonyms in place of personal data."""

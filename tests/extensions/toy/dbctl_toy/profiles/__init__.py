"""The profiles of the extension."""

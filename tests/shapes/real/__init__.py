"""Schemas that the real applications make, as normalized descriptions; README.md tells how they are recorded."""

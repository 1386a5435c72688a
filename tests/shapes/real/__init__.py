"""Schemas that the real applications create, as normalized descriptions; README.md describes how they are recorded."""

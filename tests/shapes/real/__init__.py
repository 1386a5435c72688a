"""Normalized descriptions of the schemas that the real applications create; see README.md."""

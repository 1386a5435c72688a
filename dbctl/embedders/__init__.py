"""Embedders: services, programs and packages that compute vectors of text."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.embedders.base import MAX_DIMENSIONS, Embedder, create_embedder, find_problem

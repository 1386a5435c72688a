"""Embedders: services, programs and packages that compute vectors of text."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.embedders.base import MAX_DIMENSIONS, Embedder, find_problem
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "base": "Embedder MAX_DIMENSIONS find_problem",
        },
    )

"""What makes a vector of words: services, programs and packages, each behind one small contract."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.embedders.base import LONGEST, Embedder, problem
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "base": "Embedder LONGEST problem",
        },
    )

"""Storage with the S3 protocol."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.stores.s3.store import S3
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "store": "S3",
        },
    )

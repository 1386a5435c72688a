"""The configuration: ``dbctl.toml``, S3 access, and the files shipped with dbctl."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.config.bundled import shipped
    from dbctl.config.model import (
        FILE_NAME,
        App,
        BackupConfig,
        Embedder,
        Encrypt,
        Keep,
        Opening,
        Selection,
        embedder_key,
        has_home,
        variables_set,
    )
    from dbctl.config.s3 import Access, Address, parse
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "bundled": "shipped",
            "model": (
                "App BackupConfig Embedder Encrypt FILE_NAME Keep Opening Selection embedder_key has_home "
                "variables_set"
            ),
            "s3": "Access Address parse",
        },
    )

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.config.bundled import shipped
    from dbctl.config.model import (
        FILE_NAME,
        App,
        BackupConfig,
        Compression,
        Embedder,
        Encrypt,
        Keep,
        Opening,
        Selection,
        embedder_key,
        has_home,
        recipient_problem,
        variables_set,
    )
    from dbctl.config.s3 import Access, Address, parse
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "bundled": "shipped",
            "model": "App BackupConfig Compression Embedder Encrypt FILE_NAME Keep Opening Selection embedder_key has_home recipient_problem variables_set",
            "s3": "Access Address parse",
        },
    )

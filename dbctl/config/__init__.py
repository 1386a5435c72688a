"""The configuration: ``dbctl.toml``, S3 access, and the files shipped with dbctl."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.config.bundled import shipped
    from dbctl.config.environment import variables_set
    from dbctl.config.loader import FILE_NAME
    from dbctl.config.model import App, BackupConfig, Embedder, Encrypt, Keep, Selection
    from dbctl.config.paths import has_home
    from dbctl.config.s3 import Access, Address, parse
    from dbctl.config.secrets import Opening, embedder_key
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "bundled": "shipped",
            "environment": "variables_set",
            "loader": "FILE_NAME",
            "model": "App BackupConfig Embedder Encrypt Keep Selection",
            "paths": "has_home",
            "s3": "Access Address parse",
            "secrets": "Opening embedder_key",
        },
    )

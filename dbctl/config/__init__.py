"""The configuration: ``dbctl.toml``, access to S3 storage, and the data files of the package."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.config.bundled import bundled_folder
    from dbctl.config.environment import read_set_variables
    from dbctl.config.loader import FILE_NAME
    from dbctl.config.model import App, BackupConfig, Embedder, EncryptionConfig, Retention, Selection
    from dbctl.config.paths import has_home
    from dbctl.config.s3 import Access, Address, parse_address
    from dbctl.config.secrets import DecryptionFiles, embedder_key
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "bundled": "bundled_folder",
            "environment": "read_set_variables",
            "loader": "FILE_NAME",
            "model": "App BackupConfig Embedder EncryptionConfig Retention Selection",
            "paths": "has_home",
            "s3": "Access Address parse_address",
            "secrets": "DecryptionFiles embedder_key",
        },
    )

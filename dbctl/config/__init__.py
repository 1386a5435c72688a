"""The configuration: ``dbctl.toml``, access to object storage, and the data files of the package."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.config.bundled import bundled_folder
    from dbctl.config.environment import read_set_variables
    from dbctl.config.fleet import FleetSelection, is_pattern, is_valid_name, select_instance
    from dbctl.config.loader import FILE_NAME
    from dbctl.config.model import (
        CONFIG_SCHEMA,
        PLACEHOLDER,
        App,
        BackupConfig,
        Embedder,
        EncryptionConfig,
        Retention,
        Selection,
    )
    from dbctl.config.paths import has_home, profile_folders, state_folder
    from dbctl.config.s3 import Access
    from dbctl.config.secrets import DecryptionFiles, embedder_key, read_pepper
    from dbctl.config.storage import PROVIDERS, Address, is_storage, parse_address, resolve_settings

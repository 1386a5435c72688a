"""Places that store backups, independent of databases."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.stores.base import (
        MANIFEST,
        MAX_MANIFEST_BYTES,
        FolderState,
        FolderWriter,
        Protection,
        Store,
        folders_in_state,
        hash_blocks,
    )
    from dbctl.stores.overlay import OverlayStore
    from dbctl.stores.staging import Staging

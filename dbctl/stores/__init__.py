"""Places that store backups, independent of databases."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.stores.base import (
        MANIFEST,
        MAX_MANIFEST_BYTES,
        FolderState,
        FolderWriter,
        Store,
        folders_in_state,
        hash_blocks,
    )
    from dbctl.stores.overlay import OverlayStore
    from dbctl.stores.staging import Staging
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "base": "FolderState FolderWriter MANIFEST MAX_MANIFEST_BYTES Store folders_in_state hash_blocks",
            "overlay": "OverlayStore",
            "staging": "Staging",
        },
    )

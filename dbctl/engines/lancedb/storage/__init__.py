"""Files of the Lance format: manifests, versions, fragments."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.lancedb.storage.manifest import (
        HINT_FILE,
        LEGACY_FORMAT,
        MAGIC,
        VERSIONS_FOLDER,
        DataFile,
        Fragment,
        Manifest,
        ManifestError,
    )
    from dbctl.engines.lancedb.storage.versions import History
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "manifest": "DataFile Fragment HINT_FILE LEGACY_FORMAT MAGIC Manifest ManifestError VERSIONS_FOLDER",
            "versions": "History",
        },
    )

"""Files of the Lance format: manifests, versions, fragments."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.lancedb.storage.fragments import DataFile, ManifestError, Version
    from dbctl.engines.lancedb.storage.manifest import MAGIC, Fragment, Manifest, ManifestUnreadableError
    from dbctl.engines.lancedb.storage.versions import History
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "fragments": "DataFile ManifestError Version",
            "manifest": "Fragment MAGIC Manifest ManifestUnreadableError",
            "versions": "History",
        },
    )

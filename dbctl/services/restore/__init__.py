"""Restores: apply, undo, preview, copy, single tables, test restores, recovery."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.restore.app_files import FilesRestored, FilesRestoring
    from dbctl.services.restore.apply import Restored, Restoring, latest_safety
    from dbctl.services.restore.copy import Copied
    from dbctl.services.restore.merge import Merging, Wanted
    from dbctl.services.restore.preview import Preview
    from dbctl.services.restore.restore_test import Drilled, Drills
    from dbctl.services.restore.salvage import DatabaseRecovered, Recovering, sound
    from dbctl.services.restore.tables import RestoringTables, TablesRestored
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "app_files": "FilesRestored FilesRestoring",
            "apply": "Restored Restoring latest_safety",
            "copy": "Copied",
            "merge": "Merging Wanted",
            "preview": "Preview",
            "restore_test": "Drilled Drills",
            "salvage": "DatabaseRecovered Recovering sound",
            "tables": "RestoringTables TablesRestored",
        },
    )

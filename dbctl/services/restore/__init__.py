"""Restore: apply, undo, preview, copy, single tables, drill, salvage."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.restore.app_files import FilesRestoreResult, RestoreFiles
    from dbctl.services.restore.apply import ApplyRestore, RestoreResult, find_undo_backup
    from dbctl.services.restore.copy import CopyResult
    from dbctl.services.restore.merge import MergeMode, TableSelection
    from dbctl.services.restore.preview import Preview
    from dbctl.services.restore.restore_test import DrillResult, RunDrills
    from dbctl.services.restore.salvage import DatabaseSalvageResult, SalvageDatabase, open_reference
    from dbctl.services.restore.tables import RestoreTables, TablesRestoreResult
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "app_files": "FilesRestoreResult RestoreFiles",
            "apply": "ApplyRestore RestoreResult find_undo_backup",
            "copy": "CopyResult",
            "merge": "MergeMode TableSelection",
            "preview": "Preview",
            "restore_test": "DrillResult RunDrills",
            "salvage": "DatabaseSalvageResult SalvageDatabase open_reference",
            "tables": "RestoreTables TablesRestoreResult",
        },
    )

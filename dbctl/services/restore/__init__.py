"""Restore: apply, undo, preview, copy, single tables, drill, salvage."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.restore.app_files import FilesRestoreResult, RestoreFiles
    from dbctl.services.restore.apply import ApplyRestore
    from dbctl.services.restore.copy import CopyResult
    from dbctl.services.restore.drill import RunDrills
    from dbctl.services.restore.drill_run import DrillResult
    from dbctl.services.restore.merge import MergeMode, TableSelection
    from dbctl.services.restore.preview import Preview
    from dbctl.services.restore.result import RestoreResult
    from dbctl.services.restore.salvage import DatabaseSalvageResult, SalvageDatabase, open_reference
    from dbctl.services.restore.tables import RestoreTables, TablesRestoreResult
    from dbctl.services.restore.undo import find_undo_backup
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "app_files": "FilesRestoreResult RestoreFiles",
            "apply": "ApplyRestore",
            "copy": "CopyResult",
            "drill": "RunDrills",
            "drill_run": "DrillResult",
            "merge": "MergeMode TableSelection",
            "preview": "Preview",
            "result": "RestoreResult",
            "salvage": "DatabaseSalvageResult SalvageDatabase open_reference",
            "tables": "RestoreTables TablesRestoreResult",
            "undo": "find_undo_backup",
        },
    )

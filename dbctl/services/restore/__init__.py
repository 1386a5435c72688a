"""Restore: apply, undo, preview, copy, single tables, drill, salvage."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.restore.app_files import FilesRestoreResult, RestoreFiles
    from dbctl.services.restore.apply import ApplyRestore
    from dbctl.services.restore.copy import CopyRestore, CopyResult
    from dbctl.services.restore.drill import RunDrills
    from dbctl.services.restore.drill_result import DrillResult
    from dbctl.services.restore.merge import TableSelection
    from dbctl.services.restore.preview import Preview
    from dbctl.services.restore.result import RestoreResult
    from dbctl.services.restore.salvage import DatabaseSalvageResult, SalvageDatabase, open_reference
    from dbctl.services.restore.source import BackupSource, MergeMode
    from dbctl.services.restore.tables import RestoreTables, TablesRestoreResult
    from dbctl.services.restore.undo import find_undo_backup

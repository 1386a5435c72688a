"""Import a foreign folder of LanceDB tables, which is read in place."""

from __future__ import annotations

from pathlib import Path

from dbctl.engines import registry
from dbctl.engines.file_type import FileType
from dbctl.services.backup.foreign.dump_import import DumpImport, StagedBackup, shorten_name
from dbctl.services.backup.foreign.matching import detect_database, report_missing_tables


class TableFolder:
    """A folder of LanceDB tables."""

    def __init__(self, dump_import: DumpImport) -> None:
        """Set the folder."""
        self._import = dump_import
        self._app, self._path, self._name = dump_import.app, dump_import.path, dump_import.name

    def stage(self, folder: Path) -> StagedBackup:
        """Read and verify the tables, and write an archive of them into ``folder``."""
        destination, before = folder / f"{shorten_name(self._path.name)}.tar", self._path.stat()
        file_type = FileType(content="lancedb", compress="none")
        with self._import.translate_errors():
            imported = registry.load_engine(file_type.engine).import_folder(
                self._path, destination, self._name
            )
            verification = self._import.verify(file_type.engine, destination, imported)
        database = detect_database(self._app, file_type.engine, verification.tables, self._path)
        time = self._import.detect_time(before)
        member = self._import.describe_member(file_type, destination, imported, verification, database, time)
        return StagedBackup(
            manifest=self._import.create_manifest(member, member.sha256, time),
            description="a folder of LanceDB tables",
            remarks=[
                *imported.remarks,
                *report_missing_tables(self._app, database, verification, self._path),
            ],
        )

"""Contract: dumps and folders that dbctl did not create."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from dbctl.engines.contract.dumps import Content
from dbctl.model import Struct


class ImportedDump(Struct, frozen=True, kw_only=True):
    """A file of another program, converted to the format of ``Dumps.dump`` of an engine."""

    metadata: Mapping[str, str]
    remarks: Sequence[str] = ()  #: what the user should know about it


class DumpImport(ABC):
    """The conversion of dumps of other programs for one engine: a part that an extension adds to the engine."""

    @abstractmethod
    def import_dump(
        self, content: Content, source: Path, destination: Path, target: str, *, max_bytes: int
    ) -> ImportedDump:
        """Convert a file of another program to the format of ``Dumps.dump``.

        ``source`` is a private uncompressed copy, which is consumed. The result has at most ``max_bytes``.

        Raises:
            CorruptError: it is incomplete.
            FileInvalidError: it contains more than a dump.
            DiskFullError: there is not enough free space.
        """


class FolderImport(ABC):
    """The conversion of folders of tables for one engine: a part that an extension adds to the engine."""

    @abstractmethod
    def import_folder(self, folder: Path, destination: Path, target: str) -> ImportedDump:
        """Convert a folder for which ``Engine.is_table_folder`` is true as ``DumpImport.import_dump`` does, without changing it."""

"""Run a recovery: private copy, pages, and a new file that is complete or absent."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from dbctl import signals
from dbctl.engines.contract.checks import EngineFinding
from dbctl.engines.sqlite.errors import ErrorContext, translate_create_error
from dbctl.engines.sqlite.files import list_files
from dbctl.errors.backup import UnrecoverableError
from dbctl.errors.base import Remedy
from dbctl.errors.connection import DatabaseMissingError, FileExistsAlreadyError, UnreachableError
from dbctl.extensions.salvage.contract import Salvage, SalvagedTable, SalvageRequest, SalvageResult
from dbctl.extensions.salvage.sqlite import image as images
from dbctl.extensions.salvage.sqlite import new_database, schema
from dbctl.extensions.salvage.sqlite.btree import Trees
from dbctl.extensions.salvage.sqlite.copy_rows import RowCopier
from dbctl.extensions.salvage.sqlite.image import CopyResult, Image
from dbctl.extensions.salvage.sqlite.match import match_roots
from dbctl.extensions.salvage.sqlite.new_database import create_objects, verify_and_repair
from dbctl.extensions.salvage.sqlite.schema import Entry, ReferenceSchema
from dbctl.files import atomic, mounts, temp
from dbctl.files.atomic import rename_exclusively, sync_file, sync_name
from dbctl.files.codecs import MAGIC
from dbctl.model import format_count
from dbctl.progress import Progress, no_progress

#: Size of the smallest possible page.
MIN_FILE_BYTES = 512
OTHER_NAME_HINT = "Choose another name with --to."
REFERENCE_HINT = "Take the catalog from the newest backup with --reference latest, or from a valid database with --reference FILE."


class SQLiteSalvage(Salvage):
    def salvage(
        self, request: SalvageRequest, target: str, *, progress: Progress = no_progress
    ) -> SalvageResult:
        return recover(request, target, progress)


def create_parts() -> Sequence[object]:
    """Return the parts of the engine SQLite."""
    return [SQLiteSalvage()]


def recover(request: SalvageRequest, target: str, progress: Progress) -> SalvageResult:
    """Copy the readable content of a damaged database into a new file.

    The caller has the write lock of the source, has verified that no program has it open, and has no connection to it:
    opening and closing the file here would drop the locks of a connection.

    Raises:
        BusyError: another process writes the source.
        DatabaseMissingError, UnreachableError: the source is missing or not readable.
        DiskFullError, FileFailedError, InsufficientSpaceError: nothing was created.
        FileExistsAlreadyError: the new file exists already.
        UnrecoverableError: the tables are unknown.
    """
    source = Path(os.path.realpath(request.source))
    status = _require_source(source, target)
    rejected_path = request.destination.with_name(
        f"{request.destination.stem}.rejected{request.destination.suffix}"
    )
    for new_path in (request.destination, rejected_path):
        if os.path.lexists(new_path):
            raise FileExistsAlreadyError(path=new_path, hint=OTHER_NAME_HINT)
    reference = (
        schema.read_reference(request.reference, target) if request.reference else ReferenceSchema(0, ())
    )
    with _create_workspace(source, request.destination) as folder:
        try:
            result = _Salvage(folder, target, reference, progress).run(source, force=request.force)
            if result is None:
                return SalvageResult(created=False, tables=(), findings=(), rejected_rows=None)
            tables, findings, has_rejected = result
            with signals.block_signals():
                if has_rejected:
                    _install(folder / "rejected", rejected_path, status)
                _install(folder / "new", request.destination, status)
        except sqlite3.Error as error:
            signals.raise_if_interrupted()
            context = ErrorContext(target=str(request.destination.parent), path=folder / "new")
            raise translate_create_error(error, context) from error
    return SalvageResult(
        created=True, tables=tables, findings=findings, rejected_rows=rejected_path if has_rejected else None
    )


def _require_source(source: Path, target: str) -> os.stat_result:
    try:
        status = source.stat()
    except FileNotFoundError:
        raise DatabaseMissingError(target=target, path=source) from None
    except OSError as error:
        raise _unreadable(source, target, error.strerror or str(error)) from error
    if not stat.S_ISREG(status.st_mode):
        raise _unreadable(source, target, f"{source} is not a regular file")
    if status.st_size < MIN_FILE_BYTES:
        hint = Remedy("Restore a backup with: `restore apply ID`")
        raise UnrecoverableError(target=target, reason="the file is smaller than a page", hint=hint)
    if not os.access(source, os.R_OK):
        raise _unreadable(source, target, f"{source} is not readable for this user")
    with atomic.open_regular(source) as file:
        head = file.read(8)
    if head.startswith((MAGIC["gzip"] + b"\x08", MAGIC["zstd"])):
        advice = "Decompress as much of it as can be read, and salvage the result: gzip -dc or zstd -dc."
        raise UnrecoverableError(target=target, reason="the file is compressed", hint=advice)
    return status


def _unreadable(source: Path, target: str, reason: str) -> UnreachableError:
    return UnreachableError(target=target, reason=reason, hint=f"Check owner and mode of {source}.")


@contextmanager
def _create_workspace(source: Path, destination: Path) -> Iterator[Path]:
    """Yield a private directory next to the new file, on a disk with enough free space for two copies."""
    with (
        atomic.translate_errors(destination, destination.parent),
        temp.folder(destination.parent, f".{source.name}.dbctl-recover-") as folder,
    ):
        mounts.require_space(destination.parent, 2 * sum(path.stat().st_size for path in list_files(source)))
        yield folder


class _Salvage:
    def __init__(self, folder: Path, target: str, reference: ReferenceSchema, progress: Progress) -> None:
        self._folder, self._target, self._reference, self._progress = folder, target, reference, progress

    def run(
        self, source: Path, *, force: bool
    ) -> tuple[list[SalvagedTable], list[EngineFinding], bool] | None:
        """Create the new database and that of rejected rows; None if the source is valid and ``force`` is false."""
        copy_result = images.copy_files(source, self._folder / "image", self._target)
        lines = images.check_copy(self._folder / "image", self._target)
        if not (lines or copy_result.lost_commits or force):
            return None
        findings = [EngineFinding(severity="warning", code="corrupt", message=line) for line in lines]
        rejected = new_database.RejectedRows(self._folder / "rejected")
        with closing(Image(self._folder / "image", page_size=self._reference.page_size)) as image:
            findings += _describe_source(copy_result, image)
            with closing(new_database.create_database(self._folder / "new")) as db, closing(rejected):
                for name, value in (
                    ("page_size", image.page_size),
                    ("encoding", f"'{image.encoding.upper().replace('16-', '16')}'"),
                    ("auto_vacuum", image.auto_vacuum),
                    *image.pragmas.items(),
                ):
                    db.execute(f"pragma {name} = {value}")
                copier = RowCopier(db, image, Trees(image), rejected, self._progress)
                entries, schema_findings = self._read_schema(copier.trees, image)
                findings += schema_findings
                copier.is_schema_complete = not schema_findings
                tables = copier.copy_tables(entries)
                findings += copier.findings
                findings += create_objects(db, entries)
        findings += verify_and_repair(self._folder / "new", self._target, entries)
        if copy_result.wal:
            with closing(sqlite3.connect(self._folder / "new", isolation_level=None)) as db:
                db.execute("pragma journal_mode = wal").fetchall()
        return tables, findings, rejected.has_rows

    def _read_schema(self, trees: Trees, image: Image) -> tuple[list[Entry], list[EngineFinding]]:
        entries, gaps, lost = schema.read_schema(trees)
        findings = list[EngineFinding]()
        if gaps or lost:
            where = (
                "; ".join(f"page {gap.page}: {gap.reason}" for gap in gaps[:5])
                or f"{format_count(lost, 'catalog row')} lost"
            )
            hint = "" if self._reference.entries else REFERENCE_HINT
            message = f"the catalog is damaged ({where}); tables without an entry are not recovered"
            names = {entry.name for entry in entries}
            added = [entry for entry in self._reference.entries if entry.name not in names]
            if added and self._reference.path:
                added = match_roots(image, self._reference.path, added, [entry.root for entry in entries])
                message = f"the catalog is damaged ({where}); {format_count(len(added), 'catalog row')} taken from the reference"
            entries += added
            findings.append(
                EngineFinding(severity="error", code="catalog-damaged", message=message, hint=hint)
            )
        definitions = {(entry.kind, entry.name): entry.sql for entry in self._reference.entries}
        for position, entry in enumerate(entries):
            if not entry.is_text:
                sql = definitions.get((entry.kind, entry.name))
                entries[position] = entry._replace(sql=sql or entry.sql)
                message = f"the definition of {entry.kind} {entry.name} contains bytes that are not text" + (
                    "; that of the reference was used" if sql else ""
                )
                findings.append(
                    EngineFinding(
                        severity="error",
                        code="catalog-damaged",
                        message=message,
                        hint="" if sql else REFERENCE_HINT,
                    )
                )
        if not any(entry.kind == "table" for entry in entries):
            raise UnrecoverableError(
                target=self._target, reason="its catalog cannot be read", hint=REFERENCE_HINT
            )
        return entries, findings


def _describe_source(copy_result: CopyResult, image: Image) -> Iterator[EngineFinding]:
    """Yield the damage of the -wal and of the header."""
    if lost := copy_result.lost_commits:
        message = f"the -wal is damaged: {format_count(lost, 'commit')} after the damage lost"
        yield EngineFinding(severity="error", code="commits-lost", message=message)
    if not image.has_header:
        message = f"the header of the file is damaged; a page size of {image.page_size} bytes was assumed"
        yield EngineFinding(severity="warning", code="header-damaged", message=message)
    elif image.has_wrong_page_size:
        message = f"the page size in the header is wrong; the pages have {image.page_size} bytes"
        yield EngineFinding(severity="warning", code="header-damaged", message=message)
    if image.missing_pages:
        message = (
            f"the header counts {image.total_pages} pages and the file has {image.present_pages}:"
            " the file is truncated, or its header is damaged"
        )
        yield EngineFinding(severity="warning", code="file-truncated", message=message)


def _install(source: Path, destination: Path, owner: os.stat_result) -> None:
    """Rename a complete file, with the owner and mode of the damaged one."""
    if os.geteuid() == 0:
        os.chown(source, owner.st_uid, owner.st_gid)
    source.chmod(stat.S_IMODE(owner.st_mode))
    sync_file(source)
    try:
        rename_exclusively(source, destination)
    except FileExistsError:
        raise FileExistsAlreadyError(path=destination, hint=OTHER_NAME_HINT) from None
    sync_name(destination)

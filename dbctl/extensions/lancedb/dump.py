"""A snapshot as a tar archive of one folder, ``lancedb``, which LanceDB can open after ``tar -xf``: write, extract, verify, import.

It is written while the app writes.

A script archives the folder file by file while the app may write, so the newest version in its archive may lack files. An
import then uses the newest complete version and adds a remark.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from pathlib import Path, PurePosixPath

from dbctl import signals
from dbctl.engines.contract.dumps import Content, Dump, DumpRequest, DumpResult, Dumps, DumpVerification
from dbctl.engines.contract.engine import DumpImport, FolderImport, ImportedDump
from dbctl.engines.sql.checks import require_loaded_rows
from dbctl.errors.backup import ArchiveUnsafeError, FileInvalidError, RestoreFailedError
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import CorruptError
from dbctl.extensions.lancedb import manifest, snapshot
from dbctl.extensions.lancedb.location import MAX_MANIFEST_BYTES, SUFFIX
from dbctl.extensions.lancedb.manifest import VERSIONS_FOLDER, ManifestError
from dbctl.extensions.lancedb.snapshot import Snapshot
from dbctl.extensions.lancedb.verify import NOT_READ, is_readable, verify_folder, verify_snapshot
from dbctl.files import tar
from dbctl.files.atomic import create_file

#: The folder that contains all files, with the name that the app's scripts use.
TOP_FOLDER = "lancedb"
_END = 2 * tarfile.BLOCKSIZE


def archive_size(source: Snapshot) -> int:
    """Return the approximate size of ``blocks`` in bytes; headers of long names need a little more."""
    folders, files = len(_folders(source)) + 1, source.files
    content = sum(file.size + _padding(file.size) for file in files)
    total_bytes = content + tarfile.BLOCKSIZE * (folders + len(files)) + _END
    return total_bytes + -total_bytes % tarfile.RECORDSIZE


def blocks(source: Snapshot) -> Iterator[bytes]:
    """Yield the archive; raises as ``Snapshot.blocks``."""
    total_bytes = 0
    for block in _blocks(source):
        total_bytes += len(block)
        yield block
    yield bytes(_END + -(total_bytes + _END) % tarfile.RECORDSIZE)


def _blocks(source: Snapshot) -> Iterator[bytes]:
    root_stat = source.root.stat()
    for name in (TOP_FOLDER, *(f"{TOP_FOLDER}/{folder}" for folder in _folders(source))):
        yield _header(name, root_stat, tarfile.DIRTYPE, 0)
    for file in source.files:
        yield _header(f"{TOP_FOLDER}/{file.name}", file.stat, tarfile.REGTYPE, file.size)
        yield from source.blocks(file)
        yield bytes(_padding(file.size))


def _header(name: str, stat: os.stat_result, entry_type: bytes, size: int) -> bytes:
    header = tarfile.TarInfo(name)
    header.type, header.size, header.mode = entry_type, size, stat.st_mode & 0o777
    header.uid, header.gid, header.mtime = stat.st_uid, stat.st_gid, max(0, int(stat.st_mtime))
    return header.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _folders(source: Snapshot) -> list[str]:
    """Return the folders that contain the files, parents first."""
    folders = set(source.folders)
    for file in source.files:
        folders.update(str(parent) for parent in PurePosixPath(file.name).parents)
    return sorted(folders - {"."})


def _padding(size: int) -> int:
    return -size % tarfile.BLOCKSIZE


UNCHANGED = "The database was not changed."


def extract(path: Path, destination: Path, name: str) -> Path:
    """Extract an archive into the new folder ``destination``; return the folder of the tables, which may be nested.

    Raises:
        CorruptError: it contains no tables.
        As ``tar.extract``.
    """
    tar.extract(path, destination, name=name, max_bytes=path.stat().st_size)
    if (destination / TOP_FOLDER).is_dir():
        return destination / TOP_FOLDER
    for folder, names, _ in os.walk(destination):
        signals.raise_if_interrupted()
        if any(snapshot.is_table(Path(folder, folder_name)) for folder_name in names):
            return Path(folder)
    raise CorruptError(target=name, reason="it contains no LanceDB table")


class LanceDBImport(DumpImport, FolderImport):
    """Archives and folders of tables, of which the newest complete version of each table is taken."""

    def import_dump(
        self, content: Content, source: Path, destination: Path, target: str, *, max_bytes: int
    ) -> ImportedDump:
        del content, max_bytes
        folder = source.with_name("extracted")
        try:
            root = extract(source, folder, target)
        except (ArchiveUnsafeError, FileInvalidError) as error:
            raise CorruptError(target=target, reason=str(error.context.get("reason", error))) from error
        return self.import_folder(root, destination, target)

    def import_folder(self, folder: Path, destination: Path, target: str) -> ImportedDump:
        with closing(snapshot.create_snapshot(folder, target, allow_older=True)) as source:
            if not source.tables:
                raise CorruptError(target=target, reason="it contains no LanceDB table")
            with create_file(destination) as file:
                for block in blocks(source):
                    file.write(block)
            remarks = [f"{target}: {remark}" for remark in source.remarks]
            return ImportedDump(metadata={"format": "lance", **source.versions}, remarks=remarks)


def create_parts() -> Sequence[object]:
    """Return the parts of the engine LanceDB."""
    return [LanceDBImport()]


def verify_extracted(folder: Path, dump: Dump, target: str) -> DumpVerification:
    """Read an extracted folder and compare it with the row counts and digests of its dump.

    Raises:
        RestoreFailedError: the content differs.
    """
    try:
        with closing(snapshot.create_snapshot(folder, target)) as source:
            rows = source.rows
        verification = verify_folder(folder, rows)
    except (DbctlError, ManifestError) as error:
        raise RestoreFailedError(target=target, reason=f"extracted, {error}", hint=UNCHANGED) from error
    if problems := verification.problems:
        raise RestoreFailedError(target=target, reason=f"extracted, {problems[0]}", hint=UNCHANGED)
    if dump.tables:  # otherwise they are unknown
        require_loaded_rows(dump, verification.tables, verification.digests, target=target, hint=UNCHANGED)
    return verification


def copy_ownership(folder: Path, reference: Path) -> None:
    """Give all files of a folder the owner and mode of ``reference``."""
    reference_stat = reference.stat()
    folder_mode = stat.S_IMODE(reference_stat.st_mode) & 0o777
    for parent, _, files in os.walk(folder):
        for path, mode in (
            (parent, folder_mode),
            *((os.path.join(parent, name), folder_mode & 0o666) for name in files),  # noqa: PTH118
        ):
            if os.geteuid() == 0:
                os.chown(path, reference_stat.st_uid, reference_stat.st_gid, follow_symlinks=False)
            os.chmod(path, mode)  # noqa: PTH101 - the paths are texts


#: Gives an empty private folder with free space for a number of bytes.
CreateFolder = Callable[[int], AbstractContextManager[Path]]


def read_manifests(path: Path, target: str) -> DumpVerification:
    """Return the row counts from the manifests in an archive, and missing files as problems; nothing is extracted.

    Raises:
        CorruptError: it is not an archive, or truncated.
    """
    files, manifests = _list_entries(path, target)
    rows, problems = dict[str, int](), list[str]()
    for table, manifest_names in manifests.items():
        newest = max(manifest_names)
        try:
            version = manifest.parse(
                _read_at(path, *files[f"{table}/{VERSIONS_FOLDER}/{manifest_names[newest]}"])
            )
        except ManifestError as error:
            problems.append(f"{table}: {manifest_names[newest]}: {error}")
            continue
        rows[table.removesuffix(SUFFIX)] = version.rows
        for data_file in version.files():
            size = files.get(f"{table}/{data_file.path}")
            if size is None:
                problems.append(f"{table}: {data_file.path} is missing")
            elif data_file.bytes is not None and size[1] != data_file.bytes:
                problems.append(
                    f"{table}: {data_file.path} has {size[1]:,} bytes and should have {data_file.bytes:,}"
                )
    return DumpVerification(tables=rows, schema="", problems=problems)


def verify_archive(path: Path, target: str, create_folder: CreateFolder) -> DumpVerification:
    """Extract an archive into a temporary folder and read all rows.

    Raises:
        CorruptError: it is not an archive, or truncated.
        InsufficientSpaceError, DiskFullError: there is not enough free space.
    """
    verification = read_manifests(path, target)
    if verification.problems or not is_readable():
        return verification
    with create_folder(path.stat().st_size) as temp_folder:
        folder = extract(path, temp_folder / "archive", path.name)
        return verify_folder(folder, verification.tables)


def _list_entries(
    path: Path, target: str
) -> tuple[Mapping[str, tuple[int, int]], Mapping[str, dict[int, str]]]:
    """Return the offset and size of each file, and the manifests of each table by version."""
    files, manifests = dict[str, tuple[int, int]](), dict[str, dict[int, str]]()
    try:
        with tarfile.open(path, "r:", errorlevel=2) as archive:
            while (entry := archive.next()) is not None:
                signals.raise_if_interrupted()
                archive.members = []  # type: ignore[attr-defined]
                name = str(PurePosixPath(entry.name)).removeprefix(f"{TOP_FOLDER}/")
                if not entry.isreg():
                    continue
                files[name] = (entry.offset_data, entry.size)
                table, _, subpath = name.partition("/")
                folder, _, file_name = subpath.partition("/")
                if folder == VERSIONS_FOLDER and (number := manifest.version_number(file_name)) is not None:
                    manifests.setdefault(table, {})[number] = file_name
            archive.fileobj.seek(archive.offset)
            end_block = archive.fileobj.read(tarfile.BLOCKSIZE)
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise CorruptError(target=target, reason=f"{path.name}: invalid archive: {error}") from error
    if len(end_block) < tarfile.BLOCKSIZE or any(end_block):
        raise CorruptError(target=target, reason=f"{path.name}: truncated archive")
    return files, manifests


def _read_at(path: Path, offset: int, size: int) -> bytes:
    if size > MAX_MANIFEST_BYTES:
        raise ManifestError("manifest too large")
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        return file.read(size)


class FolderDumps(Dumps):
    """``Dumps`` of a local folder, also without the lancedb package."""

    forms: Mapping[str, str] = {"lance": ".tar"}
    supports_partial = False
    is_compressed = False

    def __init__(self, root: Path, target: str) -> None:
        """Store the folder of the tables; nothing is opened."""
        self._root, self._target = root, target
        self._pinned: Snapshot | None = None

    def pin_snapshot(self) -> bool:
        """Open the files of the current versions for the next ``dump``."""
        self.unpin()
        self._pinned = snapshot.create_snapshot(self._root, self._target)
        return True

    def unpin(self) -> None:
        """Release the pinned snapshot, if any."""
        if self._pinned is not None:
            self._pinned.close()
            self._pinned = None

    def estimate_dump_size(self) -> int:
        if self._pinned is not None:
            return archive_size(self._pinned)
        with closing(snapshot.create_snapshot(self._root, self._target)) as pinned:
            return archive_size(pinned)

    def dump(self, request: DumpRequest) -> DumpResult:
        """Write the archive and verify its rows in a second thread.

        Raises:
            As ``snapshot.create_snapshot``.
        """
        pinned = self._pinned or snapshot.create_snapshot(self._root, self._target)
        try:
            return _write_archive(pinned, request)
        finally:
            pinned.close()
            self._pinned = None


def _write_archive(pinned: Snapshot, request: DumpRequest) -> DumpResult:
    total_bytes, written_bytes = archive_size(pinned), 0
    with signals.defer_signals(), create_file(request.destination) as file, ThreadPoolExecutor(1) as pool:
        future = pool.submit(verify_snapshot, pinned)
        for block in blocks(pinned):
            signals.raise_if_interrupted()
            written_bytes += file.write(block)
            request.progress(min(1.0, written_bytes / total_bytes))
        verification = future.result()
    remarks = [*pinned.remarks, *([] if is_readable() else [NOT_READ])]
    metadata = {"format": "lance", **pinned.versions} | ({"remarks": "; ".join(remarks)} if remarks else {})
    return DumpResult(
        taken_at=pinned.taken_at,
        metadata=metadata,
        verification=verification,
        sha256=file.counter.digest.sha256,
    )

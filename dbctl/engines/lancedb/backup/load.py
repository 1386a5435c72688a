"""Verify an archive of LanceDB tables: manifests, sizes of files, and all rows."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath

from dbctl import signals
from dbctl.engines.contract import DumpVerification
from dbctl.engines.lancedb.backup.archive import TOP_FOLDER
from dbctl.engines.lancedb.backup.extract import extract
from dbctl.engines.lancedb.backup.verify import is_readable, verify_folder
from dbctl.engines.lancedb.location import MAX_MANIFEST_BYTES, SUFFIX
from dbctl.engines.lancedb.storage import VERSIONS_FOLDER, ManifestError, manifest
from dbctl.errors import CorruptError

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

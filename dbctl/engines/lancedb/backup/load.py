"""What an archive of LanceDB tables holds: its manifests and the files they name, and unpacked, all of its rows."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath

from dbctl import signals
from dbctl.engines.contract import Proof
from dbctl.engines.lancedb.backup import snapshot
from dbctl.engines.lancedb.backup.archive import TOP
from dbctl.engines.lancedb.backup.verify import is_readable, of_folder
from dbctl.engines.lancedb.location import SUFFIX, VERSIONS
from dbctl.engines.lancedb.storage import ManifestError, fragments
from dbctl.errors import CorruptError, DbctlError
from dbctl.files import tar

#: Gives an empty folder that nobody else may look into, with room for so many bytes.
Room = Callable[[int], AbstractContextManager[Path]]


def told(path: Path, target: str) -> Proof:
    """Return what the manifests in an archive tell, and whether all that they name is in it; nothing is unpacked.

    Raises:
        CorruptError: it is no archive, or cut off.
    """
    files, manifests = _listed(path, target)
    rows, problems = dict[str, int](), list[str]()
    for table, found in manifests.items():
        number = max(found)
        try:
            version = fragments.read(_content(path, *files[f"{table}/{VERSIONS}/{found[number]}"]))
        except ManifestError as error:
            problems.append(f"{table}: {found[number]}: {error}")
            continue
        rows[table.removesuffix(SUFFIX)] = version.rows
        for one in version.pieces:
            there = files.get(f"{table}/{one.name}")
            if there is None:
                problems.append(f"{table}: {one.name} is missing")
            elif one.size and there[1] != one.size:
                problems.append(f"{table}: {one.name} has {there[1]:,} bytes and should have {one.size:,}")
    return Proof(tables=rows, schema="", problems=problems)


def proven(path: Path, target: str, room: Room) -> Proof:
    """Unpack an archive where nobody looks, and read all that it holds.

    Raises:
        CorruptError: it is no archive, or cut off.
        RoomMissingError, DiskFullError: it does not fit.
    """
    found = told(path, target)
    if found.problems or not is_readable():
        return found
    with room(path.stat().st_size) as place:
        folder = unpacked(path, place / "archive", path.name)
        return of_folder(folder, found.tables)


def unpacked(path: Path, to: Path, name: str) -> Path:
    """Unpack an archive into the new folder ``to``; return where the tables are, which may be further inside.

    Raises:
        CorruptError: there are none.
        As ``archives.unpack``.
    """
    tar.unpack(path, to, name=name, most=path.stat().st_size)
    if (to / TOP).is_dir():
        return to / TOP
    for folder, names, _ in os.walk(to):
        signals.check()
        if any(snapshot.is_table(Path(folder, one)) for one in names):
            return Path(folder)
    raise CorruptError(target=name, reason="there is no table of LanceDB in it")


def _listed(path: Path, target: str) -> tuple[Mapping[str, tuple[int, int]], Mapping[str, dict[int, str]]]:
    """Return where each file begins and how long it is, and the manifests of each table by version."""
    files, manifests = dict[str, tuple[int, int]](), dict[str, dict[int, str]]()
    try:
        with tarfile.open(path, "r:", errorlevel=2) as archive:
            while (one := archive.next()) is not None:
                signals.check()
                archive.members = []  # type: ignore[attr-defined]
                name = str(PurePosixPath(one.name)).removeprefix(f"{TOP}/")
                if not one.isreg():
                    continue
                files[name] = (one.offset_data, one.size)
                table, _, rest = name.partition("/")
                folder, _, manifest = rest.partition("/")
                if folder == VERSIONS and (number := fragments.number_of(manifest)) is not None:
                    manifests.setdefault(table, {})[number] = manifest
            archive.fileobj.seek(archive.offset)
            last = archive.fileobj.read(tarfile.BLOCKSIZE)
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise CorruptError(target=target, reason=f"{path.name}: as an archive: {error}") from error
    if len(last) < tarfile.BLOCKSIZE or any(last):
        raise CorruptError(target=target, reason=f"{path.name}: its end is missing")
    return files, manifests


def _content(path: Path, at: int, size: int) -> bytes:
    if size > snapshot.LARGEST_MANIFEST:
        raise ManifestError("it is larger than any")
    with path.open("rb", buffering=0) as file:
        file.seek(at)
        return file.read(size)


def failed(error: DbctlError) -> str:
    """Return the reason alone of a failure, for a message that names the rest."""
    return str(error.facts.get("reason", error))

"""Two folders that change places in one step, and how to go on where the step was cut off.

What was replaced stays beside, under a name that tells the backup which was made for it. A mark in a folder that waits
there tells that it has not come in yet: so whoever looks after a crash knows whether the app reads the old one or the new.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from dbctl.engines.lancedb.backup.snapshot import LARGEST_MANIFEST, is_table
from dbctl.engines.lancedb.location import HINT, VERSIONS
from dbctl.engines.lancedb.storage import ManifestError, fragments
from dbctl.errors import CorruptError
from dbctl.files import atomic, is_held

#: In a folder that has not come in yet.
MARK = ".dbctl-waits"
#: What the names of the folders beside end in, behind the name of the place and ``.dbctl-``.
KEPT, PARTIAL, AWAY = "kept-", ".partial", ".away"
#: In a folder: a manifest that is being written, before it gets its name in its table.
LIFTED = ".dbctl-manifest.partial"
#: How far the versions of what comes in lie above those of what goes.
JUMP = 1_000_000
_AT_FDCWD, _EXCHANGE = -100, 2
_WITHOUT = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP}


def beside(place: Path, name: str) -> Path:
    """Return a folder beside the place, which belongs to dbctl."""
    return place.with_name(f".{place.name}.dbctl-{name}")


def free(place: Path, name: str) -> Path:
    """Return one of that name, or of one like it, that is not there: a clock that is set back gives a name twice."""
    folder, number = beside(place, name), 2
    while os.path.lexists(folder):
        folder, number = beside(place, f"{name}-{number}"), number + 1
    return folder


def waits(folder: Path) -> bool:
    """Whether a folder beside is one that was to come in, and has not.

    A mark tells under which name it waits: one that was not taken away in time means nothing under any other.
    """
    return _marked(folder)[1] == folder.name


def _marked(folder: Path) -> tuple[str, str]:
    """Return what a folder was called before, and under which name it waits; empty where it has no mark."""
    try:
        before, _, waiting = atomic.read_whole(folder / MARK, 4096).decode(errors="replace").partition("\n")
    except OSError:
        return "", ""
    return before, waiting.strip()


def wait(folder: Path, waiting: Path) -> Path:
    """Let a folder wait beside the place, as what is about to come in; its mark tells what it was called."""
    with atomic.written_whole(folder / MARK, replace=True) as mark:
        mark.write(f"{folder.name}\n{waiting.name}\n")
    folder.rename(waiting)
    atomic.sync_directory(waiting.parent)
    return waiting


def go_back(waiting: Path, folder: Path) -> None:
    """Let what waits be where it was before: it will not come in."""
    waiting.rename(folder)
    (folder / MARK).unlink()
    atomic.sync_directory(waiting.parent)


def drop(waiting: Path, place: Path) -> None:
    """Let what waits go, for it will not come in: what was kept is kept again, and else it was unpacked for this alone."""
    name, _ = _marked(waiting)
    if name.startswith(beside(place, KEPT).name) and "/" not in name and name != waiting.name:
        go_back(waiting, place.with_name(name))
    else:
        remove(waiting)


def found(place: Path, name: str) -> Path | None:
    """Return where a folder is that was kept under a name, also when it waits under another one; None: it is gone."""
    kept = place.with_name(name)
    if kept.is_dir():
        return kept
    return next((one for one in left(place) if waits(one) and _marked(one)[0] == name), None)


def exchange(waiting: Path, place: Path) -> bool:
    """Let what waits and what is at the place change places; return whether there was anything.

    Raises:
        OSError: it could not be done; nothing was changed.
    """
    there = os.path.lexists(place)
    if not there:
        waiting.rename(place)
    elif not _swapped(waiting, place):
        away = waiting.with_name(f"{waiting.name}{AWAY}")
        place.rename(away)
        try:
            waiting.rename(place)
        except OSError:
            away.rename(place)
            raise
        with suppress(OSError):  # ``mend`` does it
            away.rename(waiting)
    return there


def settle(place: Path) -> None:
    """Make an exchange durable, and take the mark away, which means nothing any more.

    Raises:
        OSError: a power cut may still take the exchange back.
    """
    with suppress(OSError):
        (place / MARK).unlink()
    atomic.sync_directory(place.parent)


def mend(place: Path) -> None:
    """Put back what an exchange that was cut off had moved away, where two steps were needed."""
    for away in (one for one in left(place) if one.name.endswith(AWAY)):
        if os.path.lexists(place):
            away.rename(away.with_name(away.name.removesuffix(AWAY)))
        else:
            away.rename(place)
        atomic.sync_directory(place.parent)


def is_unfinished(place: Path) -> bool:
    """Whether something waits to come in, or was moved away for it."""
    return any(waits(one) or one.name.endswith(AWAY) for one in left(place))


def left(place: Path) -> Iterator[Path]:
    """Yield what dbctl has left beside the place: what is kept, waits, or was not finished."""
    with suppress(OSError):  # where its folder cannot be read, whoever opens it says so
        for name in sorted(os.listdir(place.parent)):  # noqa: PTH208 - names are enough
            found = place.with_name(name)
            if name.startswith(f".{place.name}.dbctl-") and found.is_dir() and not found.is_symlink():
                yield found


def remove(folder: Path) -> None:
    """Remove a folder beside; cut off, it has lost its name, and ``sweep`` goes on."""
    going = folder.with_name(f"{folder.name.removesuffix(PARTIAL)}{PARTIAL}")
    if going != folder:
        folder.rename(going)
    shutil.rmtree(going)


def sweep(place: Path) -> None:
    """Remove what was not finished, or was to be kept by nobody; whoever calls keeps every other dbctl from writing.

    What is being unpacked belongs to who unpacks it, and is locked as long as that one lives.
    """
    for one in left(place):
        if one.name.endswith(PARTIAL) or not one.name.startswith((f".{place.name}.dbctl-{KEPT}", new(place))):
            with suppress(OSError):
                remove(one)


def forsaken(place: Path) -> list[Path]:
    """Return what a dbctl that was killed had unpacked beside the place, or not removed to its end.

    Whoever calls knows that no dbctl writes there now.
    """
    return [
        one
        for one in left(place)
        if one.name.endswith(PARTIAL) or (one.name.startswith(new(place)) and not is_held(one))
    ]


def new(place: Path) -> str:
    """Return what the names of folders begin with in which something is unpacked for the place."""
    return f".{place.name}.dbctl-new-"


def _swapped(one: Path, other: Path) -> bool:
    """Let two names change places at once; return False where the system cannot."""
    if sys.platform != "linux":
        return False
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _WITHOUT:
        return False
    raise OSError(number, os.strerror(number), str(other))


# Versions ----------------------------------------------------------------------------------------------------------


def lift(folder: Path, place: Path, target: str) -> None:
    """Give each table one version more, of the same files, far above those of the table that it replaces.

    Whoever has a table open writes its next version by what it remembers of the last one. Above that number it would come
    to stand as the newest of what came in, and name files that are not there; below it LanceDB sees that others were
    quicker, and looks anew.

    Raises:
        CorruptError: a manifest cannot be read.
        OSError: it cannot be written.
    """
    for table in sorted(folder.iterdir()):
        if not is_table(table):
            continue
        own, there = _versions(table), _versions(place / table.name)
        if not own:
            continue
        newest = max(own)
        number = max(newest, *there, 0) + JUMP
        manifest = table / VERSIONS / own[newest]
        try:
            content = fragments.renumbered(atomic.read_whole(manifest, LARGEST_MANIFEST), number)
        except ManifestError as error:
            raise CorruptError(target=target, reason=f"{table.name}: {manifest.name}: {error}") from error
        with suppress(FileNotFoundError):  # it would still name the old one
            (manifest.parent / HINT).unlink()
        # Half a manifest would be the newest version: nothing could read the table any more, and nobody go back to it.
        partial = folder / LIFTED
        partial.unlink(missing_ok=True)
        atomic.filled(partial, [content])
        like = manifest.stat()
        if os.geteuid() == 0:
            os.chown(partial, like.st_uid, like.st_gid)
        partial.chmod(like.st_mode & 0o777)
        partial.rename(manifest.with_name(fragments.name_like(manifest.name, number)))
        atomic.sync_directory(manifest.parent)


def _versions(table: Path) -> dict[int, str]:
    try:
        names = os.listdir(table / VERSIONS)  # noqa: PTH208 - names are enough
    except OSError:
        return {}
    return {number: name for name in names if (number := fragments.number_of(name)) is not None}

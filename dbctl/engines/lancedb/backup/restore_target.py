"""A folder of LanceDB tables as a restore sees it: it may be missing or damaged, and nobody can be kept from writing it.

LanceDB has no locks, so what it holds is not copied before it is replaced: it stays beside as it is, with whatever was
written to the last moment. What comes in was unpacked, read and compared before, so that the exchange itself is one step.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

from dbctl import signals
from dbctl.engines.contract import Approach, Dump, Kept, Loaded, Proof, Ready, Tried
from dbctl.engines.file_locks import holders_below, write_lock
from dbctl.engines.lancedb.backup import snapshot, swap
from dbctl.engines.lancedb.backup.archive import TOP
from dbctl.engines.lancedb.backup.verify import is_readable, of_folder
from dbctl.engines.lancedb.storage import ManifestError
from dbctl.engines.sql import differing
from dbctl.errors import (
    DbctlError,
    DiskFullError,
    FileFailedError,
    KeptMissingError,
    NotADatabaseError,
    NotSupportedError,
    RestoreFailedError,
    RoomMissingError,
)
from dbctl.files import Progress, at_once, is_full, tar, temp
from dbctl.url import Url

UNTOUCHED = "What is there is as it was."
#: What is told of programs that have a file of it open.
OPEN = "{names} had files of it open when it was replaced: restart what holds it"
NOT_REPLACED = "leave it as it is: the restore that was to replace it was cut off before"


class LanceOutside:
    """One folder on this machine."""

    loads = True

    def __init__(self, url: Url, target: str) -> None:
        """Look at nothing yet.

        Raises:
            NotSupportedError: it stands in storage.
        """
        if not url.is_folder:
            raise NotSupportedError(
                what=f"backing up or restoring {target}",
                by=f"{url}, which is no folder of this machine",
                instead="Storage keeps versions of its own: let the bucket do so, or copy it with the tools of the storage.",
            )
        self._url, self._target = url, target
        self._place = Path(os.path.realpath(url.path))

    # What there is -------------------------------------------------------------------------------------------------

    def is_there(self) -> bool:
        swap.mend(self._place)
        return os.path.lexists(self._place)

    def identity(self) -> str:
        try:
            told = self._place.stat()
        except OSError:  # it is not there yet, and nothing else can be it
            return str(self._place)
        return f"{told.st_dev}:{told.st_ino}"

    def address(self, dump: Dump) -> str:
        del dump
        return str(self._url)

    def holds(self) -> bool:
        try:
            return any(True for _ in self._place.iterdir())
        except NotADirectoryError as error:
            raise NotADatabaseError(target=self._target, path=self._place, engine="LanceDB") from error
        except FileNotFoundError:
            return False

    def files(self) -> Sequence[Path]:
        return ()  # what is there stays as it lies, whatever state it is in

    def lock(self, purpose: str, *, timeout: float) -> AbstractContextManager[None]:
        return write_lock(self._place, self._target, purpose, timeout=timeout)

    def want_room(self, need: int) -> None:
        try:
            found = os.statvfs(self._place.parent)
        except OSError as error:
            raise FileFailedError(path=self._place.parent, reason=error.strerror or str(error)) from error
        if found.f_bavail * found.f_frsize < need:
            raise RoomMissingError(place=self._place.parent, need=need, room=found.f_bavail * found.f_frsize)

    def still(self, dump: Dump, *, timeout: float) -> AbstractContextManager[Callable[[], None]]:
        """Hold nobody up: what is replaced stays beside, with all that came meanwhile."""
        del dump, timeout
        return nullcontext(at_once)

    def approach(self, dump: Dump) -> Approach:
        there = self.is_there()
        if there:
            self._want_movable()
        if dump.form == "kept":
            kept = self._kept_one(dump)
            if kept is None:
                return Approach(way="in place", steps=[NOT_REPLACED])
            steps = [f"let {kept} and {self._place} change places"]
        else:
            then = "let the two change places" if there else "give it that name"
            steps = [f"unpack beside {self._place}, read it whole, and {then}"]
        if there:
            steps += self._told_open()
        return Approach(way="swapped" if there else "new", keeps=there, steps=steps, where="beside it")

    def kept(self, stamp: str) -> Kept:
        place, kept = self._place, swap.free(self._place, f"{swap.KEPT}{stamp}")
        quoted, quoted_kept = (_quoted(one) for one in (place, kept))
        note = (
            f"# {self._target} as it was when a restore replaced it stays in\n# {kept}\n"
            "# until the next restore. dbctl restore undo brings it back; by hand, while the app is stopped:\n"
            f"mv {quoted} {quoted}.restored\nmv {quoted_kept} {quoted}\n"
        )
        return Kept(facts={"kept": kept.name, "folder": str(place)}, note=note, ending=".kept.sh")

    def find_missing(self, kept: Sequence[Dump]) -> Sequence[str]:
        names = [dump.facts.get("kept", "") for dump in kept]
        return [name for name in names if not name or "/" in name or swap.found(self._place, name) is None]

    def standing(self) -> Mapping[str, str]:
        return {}  # what is replaced is kept under another name, which tells enough

    def _kept_one(self, dump: Dump) -> Path | None:
        """Return where what was kept is; None where it has never been moved there.

        Raises:
            KeptMissingError: it is gone.
        """
        swap.mend(self._place)
        name = dump.facts.get("kept", "")
        folder = swap.found(self._place, name) if name and "/" not in name else None
        if folder is None:
            raise KeptMissingError(target=self._target, name=name)
        return None if folder.name == name and swap.waits(folder) else folder

    def _want_movable(self) -> None:
        """Refuse what could not change its place, or would come back as somebody else's.

        Raises:
            NotSupportedError: a disk begins there.
            NotADatabaseError: it is no folder.
            RestoreFailedError: it belongs to another user.
        """
        if not self._place.is_dir():
            raise NotADatabaseError(target=self._target, path=self._place, engine="LanceDB")
        if os.path.ismount(self._place):
            raise NotSupportedError(
                what=f"restoring {self._target}",
                by=f"{self._place}, where a disk or a volume begins, so that no other folder can take its place",
                instead="Nothing was changed. Mount what is above it; or restore beside it: dbctl restore apply --to.",
            )
        owner = self._place.stat().st_uid
        if os.geteuid() not in {0, owner}:
            raise RestoreFailedError(
                target=self._target,
                reason=f"{self._place} belongs to another user ({owner}), who could not write what came in",
                instead="Run it as that user, or as root.",
            )

    def _told_open(self) -> list[str]:
        if names := self._holders():
            return [f"note that {names} has files of it open: stop the app, or restart it behind the restore"]
        return []

    def _holders(self) -> str:
        """Return who has files of the folder open, as far as this user may know; empty: nobody, or nobody knows."""
        try:
            found = holders_below(self._place)
        except NotSupportedError:
            return ""
        return ", ".join(f"pid {one.pid} ({one.command})" for one in found)

    # Bringing back -------------------------------------------------------------------------------------------------

    @contextmanager
    def ready(self, path: Path, dump: Dump, *, timeout: float) -> Iterator[Ready]:
        """Unpack it beside, read it whole and compare it with what is known of it, before anything is replaced.

        Raises:
            RestoreFailedError: it is not what it was.
            DiskFullError, FileFailedError: it cannot be unpacked.
        """
        del timeout
        with told(self._place):
            swap.mend(self._place)
            swap.sweep(self._place)
            if dump.form == "kept":
                kept = self._kept_one(dump)
                if kept is None:
                    yield _Nothing(self._place, self._place.with_name(dump.facts["kept"]))
                    return
                swap.lift(kept, self._place, self._target)
                yield _Exchange(self._place, kept, self._holders)
                return
            with self._made(self._place, path, dump) as (made, _):
                swap.lift(made, self._place, self._target)
                yield _Exchange(self._place, made, self._holders)

    def load(
        self,
        path: Path,
        dump: Dump,
        *,
        timeout: float,
        keep: Mapping[str, str],
        progress: Progress,
        let_go: Callable[[], None],
        spare: bool = False,
    ) -> Loaded:
        del let_go, spare  # nobody is held up, and an archive is read
        if self.is_there():
            self._want_movable()
        with self.ready(path, dump, timeout=timeout) as ready:
            progress(0.9)
            signals.check()
            ready.arm(keep)
            loaded = ready.exchange(keep)
        progress(1.0)
        return loaded

    @contextmanager
    def copied(self, path: Path, dump: Dump, *, timeout: float) -> Iterator[Url]:
        with self.tried(path, dump, timeout=timeout) as tried:
            yield tried.url

    @contextmanager
    def tried(self, path: Path, dump: Dump, *, timeout: float) -> Iterator[Tried]:
        """Give a folder that holds what an archive does, beside the place and for as long as it is looked at."""
        del timeout
        with told(self._place), self._made(self._place, path, dump) as (made, proof_of):
            yield Tried(url=Url(engine="lancedb", path=str(made)), proof=proof_of)

    def forget(self, keep: Mapping[str, str]) -> Sequence[str]:
        remarks = []
        for folder in swap.left(self._place):
            if folder.name != keep.get("kept") and not folder.name.startswith(swap.new(self._place)):
                try:
                    swap.remove(folder)
                except OSError as error:
                    why = error.strerror or error
                    remarks.append(
                        f"{folder}, which an earlier restore had kept, could not be removed: {why}"
                    )
        return remarks

    @contextmanager
    def _made(self, place: Path, path: Path, dump: Dump) -> Iterator[tuple[Path, Proof]]:
        """Give a new folder beside the place that holds what an archive does, owned like the place, and what it holds."""
        with temp.folder(place.parent, swap.new(place)) as aside:
            tar.unpack(path, aside / "archive", name=path.name, most=path.stat().st_size)
            made = aside / "archive" / TOP
            found = proven(made, dump, self._target)
            _own_like(made, place if place.is_dir() else place.parent)
            yield made, found


@contextmanager
def told(place: Path) -> Iterator[None]:
    """Tell what the system refuses."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise DiskFullError(target=str(place.parent)) from error
        raise FileFailedError(path=error.filename or place, reason=error.strerror or str(error)) from error


class _Nothing:
    """Nothing: what is there was never replaced, by a restore that was cut off before."""

    def __init__(self, place: Path, waiting: Path) -> None:
        self._place, self._waiting = place, waiting

    def arm(self, keep: Mapping[str, str]) -> None:
        """Do nothing: what waits tells already that this one is not what it is to be."""

    def disarm(self) -> None:
        """Do nothing: it still is not."""

    def exchange(self, keep: Mapping[str, str]) -> Loaded:
        """Let what waited for it go: all that belongs together is there now."""
        del keep
        remarks = []
        try:
            swap.drop(self._waiting, self._place)
        except OSError as error:
            remarks.append(
                f"{self._waiting}, which was to come in, could not be removed: {error.strerror or error}"
            )
        return Loaded(way="in place", remarks=remarks)


class _Exchange:
    """What is unpacked and proven, or was kept, about to come in."""

    def __init__(self, place: Path, folder: Path, holders: Callable[[], str]) -> None:
        self._place, self._folder, self._holders = place, folder, holders
        self._waiting: Path | None = None

    def arm(self, keep: Mapping[str, str]) -> None:
        """Let it wait where what it replaces will stay, durably, before the first of an app's databases is replaced."""
        name = keep.get("kept") or swap.beside(self._place, secrets.token_hex(4)).name
        with told(self._place):
            self._waiting = swap.wait(self._folder, self._place.with_name(name))

    def disarm(self) -> None:
        """Let it go to where it came from: it will not come in."""
        if self._waiting is not None:
            with suppress(OSError):  # where it stays, it is told of
                swap.go_back(self._waiting, self._folder)
            self._waiting = None

    def exchange(self, keep: Mapping[str, str]) -> Loaded:
        """Let it come in, in one step."""
        if self._waiting is None:
            raise RuntimeError("it does not wait")
        remarks = []
        if os.path.lexists(self._place) and (names := self._holders()):
            remarks.append(OPEN.format(names=names))
        with told(self._place), signals.unheard():
            there = swap.exchange(self._waiting, self._place)
            waiting, self._waiting = self._waiting, None
            try:  # what fails now is no reason to go back
                swap.settle(self._place)
                if there and not keep.get("kept"):
                    swap.remove(waiting)
            except OSError as error:
                remarks.append(f"{error.filename or self._place.parent}: {error.strerror or error}")
        return Loaded(way="swapped" if there else "new", remarks=remarks)


def proven(folder: Path, dump: Dump, target: str) -> Proof:
    """Read a folder that was unpacked, and compare it with what is known of it.

    Raises:
        RestoreFailedError: it is not that.
    """
    try:
        with snapshot.taken(folder, target) as found:
            rows = found.rows
        read = of_folder(folder, rows) if is_readable() else Proof(tables=rows, schema="", problems=())
    except (DbctlError, ManifestError) as error:
        raise RestoreFailedError(target=target, reason=f"unpacked, {error}", instead=UNTOUCHED) from error
    wrong = list(read.problems)
    if read.tables != dict(dump.tables) and dump.tables:
        names = sorted(
            name for name in {*read.tables, *dump.tables} if read.tables.get(name) != dump.tables.get(name)
        )
        wrong.append(f"other rows are in {', '.join(names)} than the archive held")
    if others := differing(read.digests, dump.digests):
        wrong.append(f"other content is in {', '.join(others)} than the archive held")
    if wrong:
        raise RestoreFailedError(target=target, reason=f"unpacked, {wrong[0]}", instead=UNTOUCHED)
    return read


def _own_like(folder: Path, like: Path) -> None:
    """Give all that is in a folder the owner of another one, and modes like its."""
    told = like.stat()
    mode = stat.S_IMODE(told.st_mode) & 0o777
    for top, _, files in os.walk(folder):
        for path, wanted in ((top, mode), *((os.path.join(top, one), mode & 0o666) for one in files)):  # noqa: PTH118
            if os.geteuid() == 0:
                os.chown(path, told.st_uid, told.st_gid, follow_symlinks=False)
            os.chmod(path, wanted)  # noqa: PTH101 - of many texts


def _quoted(path: Path) -> str:
    import shlex

    return shlex.quote(str(path))

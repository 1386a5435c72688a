"""``migrate new``: a migration to be written by hand, begun."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from dbctl.engines import registry
from dbctl.errors import (
    DatabaseMissingError,
    DbctlError,
    FileFailedError,
    MigrationsShippedError,
    UsageError,
    ValueInvalidError,
)
from dbctl.files import written_whole
from dbctl.model import Plan, Value, now
from dbctl.services.app import App
from dbctl.services.migrations.files.loader import MigrationFile, back_of_new, path_of_new, place_of
from dbctl.services.migrations.files.parser import beginnings
from dbctl.services.migrations.ledger import Track
from dbctl.services.migrations.status import look

_RUNS = "-- Runs statement by statement; nothing here may begin or end a transaction, which the runner does."
_MOMENT = 14  #: digits of a version that is a moment, as dbmate, goose and Prisma give them
_DIGITS = 3  #: of the first number in an empty folder
_LONGEST_NAME = 100


class FileCreated(Value, frozen=True, kw_only=True):
    """Answer of ``migrate new``."""

    path: Path
    version: str
    name: str


class NewMigration:
    """A migration to be written by hand, begun: the next number or the present moment, a safe name, and a header."""

    def __init__(self, app: App, tracks: Sequence[Track], words: str) -> None:
        """Find the next number and make the name safe.

        Raises:
            UsageError: it could belong to several databases.
            MigrationsShippedError: the folder is the one shipped with dbctl.
            ValueInvalidError: nothing of the name can be part of a file's name.
        """
        self.app, self.protected = app.name, app.protected
        if len(tracks) > 1:
            raise UsageError(
                detail=f"say which database it is for: --db {', '.join(one.database for one in tracks)}"
            )
        self.target, found = tracks[0].target, tracks[0].folder
        self._purpose = "".join(sign for sign in " ".join(words.split()) if sign.isprintable())
        if not found.own:
            raise MigrationsShippedError(target=self.target)
        names = list(found.files)
        newest = next(reversed([*found.files.values()]), None)
        if found.format == "prisma" or (newest and len(newest.version) == _MOMENT):
            self._version = f"{now():%Y%m%d%H%M%S}"
            self._name = f"{self._version}_{_safe(words, names)}"
        else:
            self._version = _next_number(list(found.files.values()), _numbers(app, tracks[0]))
            self._name = f"{self._version}{_mark(names)}{_safe(words, names)}"
        self._path = path_of_new(found, self._name)
        self._back = back_of_new(found, self._name)
        language = registry.language(tracks[0].engine)
        self._ways = beginnings(newest.text() if newest else "", found.format, language)

    def plan(self) -> Plan:
        """Return which file would be written."""
        steps = [f"write {path}" for path in (self._path, self._back) if path]
        return Plan(title="Begin a migration", target=self.target, steps=steps, rows={})

    def apply(self, seen: str | None = None) -> FileCreated:
        """Write it, whole or not at all.

        Raises:
            FileExistsAlreadyError: somebody wrote one of that name meanwhile.
            FileFailedError: the disk is full, or the folder may not be written.
        """
        del seen  # the name is settled, and a file that came meanwhile is never replaced
        up, down = self._ways
        head = f"-- Purpose: {self._purpose}\n--\n{_RUNS}\n"
        with self._folder():
            if self._back:
                self._write(self._back, f"-- Takes back: {self._purpose}\n--\n{_RUNS}\n\n")
            try:
                self._write(self._path, head + (f"{up}\n\n{down}\n\n" if up else "\n"))
            except BaseException:  # one of a pair is none
                if self._back:
                    self._back.unlink()
                raise
        return FileCreated(path=self._path, version=self._version, name=self._name)

    def _write(self, path: Path, text: str) -> None:
        with written_whole(path, mode=0o644) as file:
            file.write(text)

    @contextmanager
    def _folder(self) -> Iterator[None]:
        """Make the folder of its own, where it has one; it is removed again when the work fails."""
        place = self._path.parent
        made = not place.exists()
        try:
            if made:
                place.mkdir()
            yield
        except OSError as error:
            raise FileFailedError(path=place, reason=error.strerror or str(error)) from error
        except BaseException:  # also on a signal: the app's runner would trip over an empty folder
            if made:
                with suppress(OSError):  # somebody has put something there
                    place.rmdir()
            raise


def _numbers(app: App, track: Track) -> Iterator[int]:
    """Yield the numbers of migrations that the database has had, or is to have before those of the folder.

    Raises:
        DbctlError: the database cannot be looked at, and the folder is empty.
    """
    try:
        found = look(app, track)
    except DbctlError as error:
        if track.folder.files or isinstance(error, DatabaseMissingError):
            return
        raise
    yield from (place_of(one.name)[0] for one in found.migrations)
    if (
        found.unrecorded and not track.folder.files
    ):  # migrate baseline is to record those that travel with dbctl
        for folder in track.shipped.values():
            yield from (file.place[0] for file in folder.files.values())


def _next_number(files: Sequence[MigrationFile], others: Iterable[int]) -> str:
    newest = max((*(file.place[0] for file in files), *others), default=0)
    width = max((len(file.version) for file in files), default=_DIGITS)
    return f"{newest + 1:0{width}d}"


def _mark(names: Sequence[str]) -> str:
    """Return what stands between number and name in the newest file."""
    return names[-1].lstrip("0123456789")[0] if names else "_"


def _safe(words: str, names: Sequence[str]) -> str:
    """Return ``words`` as ASCII letters and digits, joined as most of the other names are."""
    import unicodedata

    plain = unicodedata.normalize("NFKD", words).encode("ascii", "ignore").decode().lower()
    parts = re.findall(r"[a-z0-9]+", plain)
    if not parts:
        raise ValueInvalidError(
            what="the name", value=repr(words), reason="it has no letter and no digit of ASCII"
        )
    inner = Counter(sign for name in names for sign in name.lstrip("0123456789")[1:] if sign in "-_")
    joined = ("-" if inner["-"] > inner["_"] else "_").join(parts)
    if len(joined) > _LONGEST_NAME:
        raise ValueInvalidError(
            what="the name", value=repr(words), reason=f"it is longer than {_LONGEST_NAME}"
        )
    return joined

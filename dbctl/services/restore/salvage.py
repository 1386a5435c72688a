"""What can be read of a damaged database, brought into a new file beside it; the damaged one stays as it is."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dbctl.config import Selection
from dbctl.engines import registry
from dbctl.engines.contract import Recovered, Recovery, TableRecovered
from dbctl.errors import BackupMissingError, BusyError, Exit, FileMissingError, NotSupportedError, UsageError
from dbctl.model import Done, Finding, Plan, Row, counted, now
from dbctl.services.app import App, command_line
from dbctl.services.backup import ID, LATEST, Keys, Repository, unpacking
from dbctl.services.integrity import gathered
from dbctl.services.restore.source import members
from dbctl.url import Url

SOUND = "SQLite finds nothing wrong with it, so there is nothing to recover; --force reads it all the same"


class DatabaseRecovered(Done, frozen=True, kw_only=True):
    """Answer of ``restore recover``."""

    source: Path
    path: Path | None  #: the new file; None where the database is sound
    aside: Path | None  #: rows that the new file does not take as they are; None where there are none
    tables: Sequence[TableRecovered]
    findings: Sequence[Finding]
    next: Sequence[str]  #: how the new file comes into the place of the damaged one

    @property
    def changed(self) -> bool:
        """Whether a file was made."""
        return self.path is not None

    @property
    def tells(self) -> bool:
        return True

    @property
    def exit_status(self) -> int:
        return Exit.UNSOUND if any(one.severity == "error" for one in self.findings) else Exit.OK

    def brief(self) -> Row:
        if self.path is None:
            return {"source": self.source, "found": SOUND}
        told: dict[str, object] = {"path": self.path}
        if self.aside:
            told["aside"] = self.aside
        told["tables"] = [
            {
                "table": one.table,
                "saved": one.saved,
                "lost": one.lost,
                "unread": counted(one.unread, "range") if one.unread else "-",
                "aside": one.aside,
            }
            for one in self.tables
        ]
        told["findings"] = [
            {
                "severity": one.severity,
                "code": one.code,
                "message": f"{one.message}. {one.hint}" if one.hint else one.message,
            }
            for one in self.findings
        ]
        return told | {"next": self.next}


class Recovering:
    """What ``restore recover`` is about to do."""

    purpose = "restore recover"

    def __init__(
        self,
        app: App,
        said: Selection,
        *,
        to: Path | None = None,
        source: Path | None = None,
        like: Path | None = None,
        like_named: str = "",
        force: bool = False,
        advance: Callable[[float], None] = lambda _share: None,
    ) -> None:
        """Find the database: the one that was asked for, else the app's main one.

        Args:
            app: the app.
            said: what the options said about it, for the commands of the answer.
            to: the new file; None: beside the damaged one, named after it and the time.
            source: another file than the app's own.
            like: a sound database of the same shape, for what the damaged one does not tell any more.
            like_named: what plans call it, where it is one out of a backup.
            force: whether a sound database is read, too.
            advance: told by which share the work has moved on.

        Raises:
            FileMissingError: ``source`` or ``like`` is not there.
            NotSupportedError: the database is on a server.
            UsageError: one file was given for two purposes.
        """
        self.app, self.protected = app.name, app.protected
        self._opened, self._said, self._advance = app, said, advance
        self.database = app.only or app.main()
        self.target = app.target(self.database)
        url = Url(engine="sqlite", path=str(source)) if source else app.url(self.database)
        registry.want_recoverable(url, self.target)
        for what, given in (("damaged database", source), ("sound database", like)):
            if given is not None and not os.path.exists(given):  # noqa: PTH110 - pathlib's raises where it may not look
                raise FileMissingError(what=what, path=given)
        path = Path(url.path)
        if like is not None and os.path.exists(path) and like.samefile(path):  # noqa: PTH110 - as above
            raise UsageError(detail=f"--like {like}: it is the damaged database itself")
        real, stamp = path.resolve(), now().strftime("%Y%m%d_%H%M%S")
        beside = real.with_name(f"{real.stem}.recovered-{stamp}{real.suffix}")
        self._like_named = like_named or str(like)
        self._url, self._force, self._own = url, force, source is None
        self._what = Recovery(
            source=real,
            to=(Path.cwd() / to if to else beside),
            anyway=force,
            like=like.resolve() if like else None,
        )

    def plan(self) -> Plan:
        """Return what would be made; reads nothing."""
        what = self._what
        steps = [f"copy {what.source} with what stands beside it, and read that copy page by page"]
        if not self._force:
            steps.insert(1, "end there when SQLite finds nothing wrong with it")
        if what.like:
            steps.append(f"take tables that it no longer tells of from {self._like_named}")
        steps.append(f"write what can be read to the new file {what.to}")
        title = "Recover what can be read"
        return Plan(title=title, target=self.target, steps=steps, rows={}, destructive=False)

    def apply(self, seen: str | None = None) -> DatabaseRecovered:
        """Make the new file; on any failure there is none.

        Raises:
            BusyError: a program has the database open, or another dbctl writes it.
            Others, as ``engines.sqlite.recover.recover``.
        """
        del seen  # nothing is destroyed, so nobody was asked
        self._opened.close()  # the file is read past SQLite, which would drop the locks of a reader
        with ExitStack() as held:
            if os.access(self._what.source.parent, os.W_OK):  # a failing disk may have become read-only
                timeout = self._opened.timeout
                held.enter_context(registry.write_lock(self._url, self.target, self.purpose, timeout=timeout))
            self._want_nobody()
            done = 0.0

            def progress(share: float) -> None:
                nonlocal done
                self._advance(max(0.0, share - done))
                done = max(done, share)

            return self._answer(registry.recover(self._url, self._what, self.target, progress=progress))

    def _want_nobody(self) -> None:
        try:
            holders = registry.holders(self._url, self.target)
        except NotSupportedError:  # this system does not tell; that nobody writes is looked at once more
            return
        if holders:
            named = ", ".join(f"pid {one.pid} ({one.command})" for one in holders)
            raise BusyError(target=self.target, holder=f" by {named}, which has to end first", waited="0")

    def _answer(self, made: Recovered) -> DatabaseRecovered:
        damage = [one.message for one in made.concerns if one.code == "corrupt"]
        findings = [
            Finding(target=self.target, severity="warning", code="corrupt", message=line)
            for line in gathered(damage)
        ]
        findings += [
            Finding(
                target=self.target, severity=one.severity, code=one.code, message=one.message, hint=one.hint
            )
            for one in made.concerns
            if one.code != "corrupt"
        ]
        return DatabaseRecovered(
            source=self._what.source,
            path=self._what.to if made.made else None,
            aside=made.aside,
            tables=made.tables,
            findings=findings,
            next=self._next() if made.made else (),
        )

    def _next(self) -> Sequence[str]:
        """Return how the new file comes into its place: as a backup where there is a repository, else by hand."""
        new, old = self._what.to, self._what.source
        if self._own and self._opened.configured.backup and not self._said.urls:
            configured = self._opened.configured
            words = command_line.remedy(self._said, configured, "backup", "create", "--db", self.database)
            back = command_line.remedy(
                self._said, configured, "restore", "apply", "latest", "--db", self.database
            )
            return [shlex.join([*words, "--url", f"{self.database}={new}"]), shlex.join(back)]
        place = Path(self._opened.url(self.database).path).resolve() if self._own else old
        kept = [Path(f"{place}{suffix}") for suffix in ("", "-wal", "-journal", "-shm")]
        moves = [
            shlex.join(["mv", str(one), f"{one}.damaged"]) for one in kept if one == place or one.exists()
        ]
        return [*moves, shlex.join(["mv", str(new), str(place)])]


WHAT = "sound database"


@contextmanager
def sound(app: App, named: str, database: str, keys: Keys) -> Iterator[Path | None]:
    """Give the file of a sound database: the one that is named, or out of the backup of that id; None where none is.

    Raises:
        FileMissingError: there is neither.
        BackupMissingError: the backup is not there, or does not hold the database.
        CorruptError: it does not unpack to what was packed.
    """
    path = Path(named)
    if not named or os.path.exists(path):  # noqa: PTH110 - pathlib's raises where it may not look
        yield path if named else None
        return
    if named != LATEST and not ID.fullmatch(named):
        raise FileMissingError(what=WHAT, path=path)
    repository = Repository(app)
    manifest = repository.find(named)
    held_there = {one.database: one for one in members(app, repository, manifest, live=False)}
    if database not in held_there:
        place = repository.store.place
        raise BackupMissingError(name=manifest.id, app=app.target(database), place=place, near="")
    keys.ready(repository.store, manifest)
    one = held_there[database]
    with ExitStack() as held:
        unpacked = held.enter_context(unpacking(repository.store, keys))
        yield held.enter_context(unpacked.opened(manifest, one, app.target(database)))

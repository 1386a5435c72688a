"""``restore recover``: salvage the rows of a damaged SQLite database into a new file."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dbctl import progress
from dbctl.config.sections import Selection
from dbctl.engines import registry
from dbctl.engines.contract.engine import Engine
from dbctl.engines.contract.route import locate_path
from dbctl.errors.base import Exit, Remedy
from dbctl.errors.connection import BusyError, FileMissingError
from dbctl.errors.usage import NotSupportedError, UsageError
from dbctl.extensions import registry as extensions
from dbctl.extensions.salvage.contract import Salvage, SalvagedTable, SalvageRequest, SalvageResult
from dbctl.model import ChangeResult, Closing, Effect, Finding, Plan, Row, format_count, join_hint, now
from dbctl.services.app.app import App
from dbctl.services.app.change import Operation
from dbctl.services.backup.encryption import DecryptionKeys
from dbctl.services.backup.repository import ID, LATEST, Repository
from dbctl.services.backup.sources import count_in_bytes
from dbctl.services.checks.damage import group_lines
from dbctl.services.restore.source import BackupSource
from dbctl.url import PATH_ENGINE, Url

NO_DAMAGE = "SQLite finds no damage; use --force to recover anyway"


class DatabaseSalvageResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``restore recover``."""

    is_timed = True

    source: Path
    path: Path | None  #: the new file; None: the database is not damaged
    #: file with the rows that violate constraints of the new file; None: no such rows
    quarantine: Path | None
    tables: Sequence[SalvagedTable]
    findings: Sequence[Finding]
    next_commands: Sequence[str]  #: commands that replace the damaged file by the new one

    @property
    def effect(self) -> Effect | None:
        if self.path is None:
            return None
        names = ("saved", "lost", "rejected")
        rows = {f"rows {name}": sum(getattr(table, name) for table in self.tables) for name in names}
        counts = {"tables": len(self.tables), **rows}
        return Effect("recovered", "database", [str(self.source)], place=f"to {self.path}", counts=counts)

    @property
    def closing(self) -> Closing:
        return super().closing if self.path else Closing(f"Checked {self.source}", [NO_DAMAGE])

    @property
    def lost_output(self) -> Callable[[], str]:
        return lambda: "The report was not written: what is lost is only in the damaged file."

    @property
    def exit_status(self) -> int:
        return Exit.CHECK_FAILED if any(finding.severity == "error" for finding in self.findings) else Exit.OK

    def summary(self) -> Row:
        if self.path is None:
            return {"source": self.source, "result": NO_DAMAGE}
        summary: dict[str, object] = {"path": self.path}
        if self.quarantine:
            summary["quarantine"] = self.quarantine
        summary["tables"] = [
            {
                "table": table.table,
                "saved": table.saved,
                "lost": table.lost,
                "unread": format_count(table.unread_ranges, "range") if table.unread_ranges else "-",
                "rejected": table.rejected,
            }
            for table in self.tables
        ]
        summary["findings"] = [
            {
                "severity": finding.severity,
                "code": finding.code,
                "message": join_hint(finding.message, finding.hint),
            }
            for finding in self.findings
        ]
        return summary | {"next_commands": self.next_commands}


class SalvageDatabase(Operation):
    """Salvage a damaged database into a new file; the damaged file is not changed."""

    def __init__(
        self,
        app: App,
        selection: Selection,
        *,
        to: Path | None = None,
        source: Path | None = None,
        reference: Path | None = None,
        reference_name: str = "",
        force: bool = False,
    ) -> None:
        """Select the database: that of ``app.only``, or the app's main database.

        Args:
            app: the app.
            selection: the options that select the app, for the commands of the result.
            to: the new file; None: next to the damaged file, named after it and the time.
            source: a file other than the app's database.
            reference: a valid database with the same schema, for tables whose definition cannot be read.
            reference_name: its name in plans, if it comes from a backup.
            force: whether to read a database without damage, too.

        Raises:
            FileMissingError: ``source`` or ``reference`` does not exist.
            NotSupportedError: the database is on a server.
            RoutedPathError: it is behind a route.
            UsageError: the same file was given as ``source`` and ``reference``.
        """
        self.database = app.only or app.main_database
        super().__init__(app, app.target(self.database))
        self._selection = selection
        url = Url(engine=PATH_ENGINE, path=str(source)) if source else app.url(self.database)
        self._salvage = _require_salvage(registry.load_engine(url.engine), self.target)
        for kind, path_option in (("damaged database", source), ("valid database", reference)):
            if path_option is not None and not os.path.exists(path_option):  # noqa: PTH110 - the method of pathlib raises PermissionError
                raise FileMissingError(kind=kind, path=path_option)
        path = locate_path(url, self.target)
        if reference is not None and os.path.exists(path) and reference.samefile(path):  # noqa: PTH110
            raise UsageError(detail=f"--reference {reference}: it is the damaged database itself")
        real = path.resolve()
        # The plan contains no time, so that equal plans have equal digests.
        self._shown_path, destination = (
            [Path.cwd() / to] * 2
            if to
            else [
                real.with_name(f"{real.stem}.recovered-{stamp}{real.suffix}")
                for stamp in ("TIME", now().strftime("%Y%m%d_%H%M%S"))
            ]
        )
        self._reference_name = reference_name or str(reference)
        self._url, self._force, self._is_app_database = url, force, source is None
        self._recovery = SalvageRequest(
            source=real,
            destination=destination,
            force=force,
            reference=reference.resolve() if reference else None,
        )

    def plan(self) -> Plan:
        """Return the steps; reads nothing."""
        recovery = self._recovery
        steps = [f"copy {recovery.source} with its journal files, and read the copy page by page"]
        if not self._force:
            steps.insert(1, "stop if SQLite finds no damage")
        if recovery.reference:
            steps.append(f"read missing table definitions from {self._reference_name}")
        steps.append(f"write the readable rows to the new file {self._shown_path}")
        return self._create_plan("Recover readable rows", steps)

    def apply(self, confirmed: str | None = None) -> DatabaseSalvageResult:
        """Create the new file; on failure it is deleted.

        Raises:
            BusyError: another program has the database open, or another dbctl process writes it.
            Others, as ``Salvage.salvage``.
        """
        del confirmed  # no confirmation: nothing is destroyed
        self._app.close()  # the file is read without SQLite; closing it would drop the locks of an open reader
        engine = registry.load_engine(self._url.engine)
        with ExitStack() as stack:
            if os.access(self._recovery.source.parent, os.W_OK):  # a failing disk may have become read-only
                restore_target = engine.restore_target(self._url, self.target)
                stack.enter_context(restore_target.lock(self._app.spec.name, timeout=self._app.timeout))
            self._require_unused()
            return self._create_result(
                self._salvage.salvage(
                    self._recovery, self.target, progress=count_in_bytes((100, progress.advance))
                )
            )

    def _require_unused(self) -> None:
        try:
            holders = registry.load_engine(self._url.engine).list_lock_holders(self._url, self.target)
        except NotSupportedError:  # unknown on this system; the engine checks again for writers
            return
        if holders:
            processes = ", ".join(f"pid {process.pid} ({process.command})" for process in holders)
            raise BusyError(target=self.target, holder=f" by {processes}; stop it first", waited="0")

    def _create_result(self, result: SalvageResult) -> DatabaseSalvageResult:
        damage = [finding.message for finding in result.findings if finding.code == "corrupt"]
        findings = [
            Finding(target=self.target, severity="warning", code="corrupt", message=line)
            for line in group_lines(damage)
        ]
        findings += [
            Finding(self.target, finding.severity, finding.code, finding.message, finding.hint)
            for finding in result.findings
            if finding.code != "corrupt"
        ]
        return DatabaseSalvageResult(
            source=self._recovery.source,
            path=self._recovery.destination if result.created else None,
            quarantine=result.rejected_rows,
            tables=result.tables,
            findings=findings,
            next_commands=self._next_commands() if result.created else (),
        )

    def _next_commands(self) -> Sequence[str]:
        """Return the commands that install the new file: with a safety backup if a repository is configured and dbctl restores files of others, otherwise with mv."""
        new, old = self._recovery.destination, self._recovery.source
        app = self._app
        can_restore = app.configured.backup and "backup adopt" not in extensions.list_absent()
        if self._is_app_database and can_restore and not self._selection.urls:
            facts = {"database": self.database, "file": str(new)}
            return [Remedy("`restore apply --file {file} --db {database}`").write(app.name, facts)]
        installed_path = Path(app.url(self.database).path).resolve() if self._is_app_database else old
        damaged_files = [Path(f"{installed_path}{suffix}") for suffix in ("", "-wal", "-journal", "-shm")]
        moves = [
            shlex.join(["mv", str(path), f"{path}.damaged"])
            for path in damaged_files
            if path == installed_path or path.exists()
        ]
        return [*moves, shlex.join(["mv", str(new), str(installed_path)])]


def _require_salvage(engine: Engine, target: str) -> Salvage:
    if part := engine.extension_part(Salvage):
        return part
    raise NotSupportedError(
        feature=f"salvaging {target} from its files", subject=engine.title, hint=engine.damage_hint
    )


@contextmanager
def open_reference(app: App, path_or_id: str, database: str, keys: DecryptionKeys) -> Iterator[Path | None]:
    """Yield the file of a valid database, given as a path or backup id; None without a name.

    Raises:
        FileMissingError: there is neither a file nor a backup of that name.
        BackupMissingError: the backup does not exist, or does not contain the database.
        CorruptError: the member cannot be decompressed to its original content.
    """
    path = Path(path_or_id)
    if not path_or_id or os.path.exists(path):  # noqa: PTH110 - the method of pathlib raises PermissionError
        yield path if path_or_id else None
        return
    if path_or_id != LATEST and not ID.fullmatch(path_or_id):
        raise FileMissingError(kind="valid database", path=path)
    repository = Repository(app)
    source = BackupSource(repository, repository.find(path_or_id), keys)
    members = [member for member in source.select_members(replaces_live=False) if member.database == database]
    if not members:
        raise source.missing_error(database)
    source.prepare_keys()
    with source.open_reader() as reader:
        yield reader.decode(source.manifest, members[0], app.target(database))

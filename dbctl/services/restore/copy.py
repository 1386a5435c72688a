"""``restore apply --to``: restore a backup into other databases than those of the app."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from msgspec import structs

from dbctl import signals
from dbctl.engines import registry
from dbctl.errors import (
    BackupMissingError,
    DbctlError,
    FileMissingError,
    NotSupportedError,
    TargetIsSourceError,
    TargetNotEmptyError,
    UsageError,
)
from dbctl.model import ChangeResult, Plan, Row, Struct, format_count
from dbctl.services.app import App
from dbctl.services.backup import (
    DecryptionKeys,
    Manifest,
    Member,
    MemberReader,
    Repository,
    needs_decoding,
    open_reader,
)
from dbctl.services.restore.source import (
    label_member,
    require_backup,
    require_copyable,
    select_members,
    verify_members,
)
from dbctl.url import Url, resolve_engine


class CopiedDatabase(Struct, frozen=True, kw_only=True):
    """One database that was restored as a copy."""

    database: str
    url: str  #: without its password
    strategy: str  #: ``LoadResult.method``
    rows: int
    tables: int


class CopyResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``restore apply --to``."""

    backup: str
    databases: Sequence[CopiedDatabase]
    duration: float  #: seconds
    command: str  #: the beginning of dbctl commands on the copy
    notes: Sequence[str]  #: manual actions

    @property
    def remarks(self) -> Sequence[str]:
        return self.notes

    def summary(self) -> Row:
        row: dict[str, object] = {"backup": self.backup}
        for database in self.databases:
            row[database.database] = (
                f"{format_count(database.rows, 'row')} of {format_count(database.tables, 'table')}, in {database.url}"
            )
        return row | {"duration": f"{self.duration:.1f} s", "usage": f"{self.command} COMMAND"}


class _CopyTarget(Struct, frozen=True, kw_only=True):
    """One database and the address of its copy."""

    member: Member
    url: Url

    def moves_file(self) -> bool:
        """Return whether the decompressed file is expected to become the copy itself."""
        strategy = (
            registry.load_engine(self.url.engine)
            .restore_target(self.url, str(self.url))
            .strategy(self.member.dump)
            .method
        )
        return self.url.is_file and strategy == "new"


class CopyRestore:
    """Restore copies of databases; the databases of the app are not opened."""

    purpose = "restore apply --to"

    def __init__(
        self,
        app: App,
        repository: Repository,
        manifest: Manifest,
        to: Mapping[str, Url],
        keys: DecryptionKeys,
        *,
        replace: bool = False,
        timeout: float,
        advance: Callable[[int], None] = lambda _bytes: None,
    ) -> None:
        """Assign an address to each database.

        Args:
            app: the app.
            repository: its backups.
            manifest: the backup.
            to: address by database; a single ``main`` stands for the only selected database.
            keys: the keys for the backup, already prepared.
            replace: whether existing contents may be replaced.
            timeout: seconds to wait for a lock.
            advance: receives the number of bytes processed since the last call.

        Raises:
            UsageError: the address of a database is ambiguous.
            NotSupportedError: the address belongs to another engine.
            TargetIsSourceError: the address is that of a database of the app.
            And as ``select_members``.
        """
        self.app, self.protected, self.target = app.name, app.protected, app.name
        self._open_app, self._repository, self._manifest = app, repository, manifest
        self._keys = keys
        self._replace, self._timeout, self._advance = replace, timeout, advance
        self._copies = _assign_urls(app, repository, manifest, to)
        for copy in self._copies:
            _require_other_location(app, repository, copy)

    def plan(self) -> Plan:
        """Return the copies to create; writes nothing."""
        steps, is_destructive = [f"verify {self._manifest.id}: checksums, integrity, rows, schema"], False
        rows = dict[str, int]()
        for copy in self._copies:
            member, is_filled = copy.member, self._is_filled(copy)
            strategy = (
                registry.load_engine(copy.url.engine)
                .restore_target(copy.url, str(copy.url))
                .strategy(member.dump)
            )
            steps += strategy.steps
            count = f"{format_count(sum(member.rows.values()), 'row')} of {format_count(len(member.rows), 'table')}"
            action = (
                f"replace the contents of {copy.url}, without a safety backup,"
                if is_filled
                else f"fill {copy.url}"
            )
            steps.append(f"{action} with {label_member(member)} ({count})")
            is_destructive |= is_filled
            rows |= {table: rows.get(table, 0) + row_count for table, row_count in member.rows.items()}
        title = f"Copy {self._manifest.id} ({self._manifest.created_at:%Y-%m-%d %H:%M} UTC)"
        return Plan(title=title, target=self.target, steps=steps, rows=rows, destructive=is_destructive)

    def apply(self, confirmed: str | None = None) -> CopyResult:
        """Create the copies one after the other; a failed copy is deleted.

        Raises:
            BackupMissingError: the backup was pruned since the plan; nothing was created.
            BackupCorruptError: the backup is damaged; nothing was created.
            TargetNotEmptyError: a target is no longer empty; it is unchanged.
        """
        del confirmed  # the targets are checked again
        start = time.monotonic()
        with ExitStack() as stack:
            stack.enter_context(self._repository.store.lock(self.purpose, timeout=self._timeout))
            require_backup(self._repository, self._manifest)
            for copy in self._copies:
                url, target = copy.url, str(copy.url)
                stack.enter_context(
                    registry.load_engine(url.engine)
                    .restore_target(url, target)
                    .lock(self.purpose, timeout=self._timeout)
                )
                registry.load_engine(url.engine).restore_target(url, target).require_space(copy.member.size)
                self._is_filled(copy)
            moved_databases = [copy.member.database for copy in self._copies if copy.moves_file()]
            reader = stack.enter_context(
                open_reader(self._repository.store, self._keys, moved_databases=moved_databases)
            )
            members = [copy.member for copy in self._copies]
            verify_members(
                self._open_app,
                self._repository,
                self._manifest,
                members,
                keys=self._keys,
                reader=reader,
                advance=self._advance,
            )
            results = [self._create_copy(database, reader) for database in self._copies]
        return CopyResult(
            backup=self._manifest.id,
            databases=[database for database, _ in results],
            duration=round(time.monotonic() - start, 3),
            command=_build_command_line(self._open_app, self._copies),
            notes=[note for _, notes in results for note in notes],
        )

    def _is_filled(self, copy: _CopyTarget) -> bool:
        """Return whether contents are replaced; raise TargetNotEmptyError if that is not allowed."""
        restore_target = registry.load_engine(copy.url.engine).restore_target(copy.url, str(copy.url))
        if not restore_target.exists():
            return False
        if self._replace:
            return True
        if restore_target.has_content():
            raise TargetNotEmptyError(place=copy.url)
        return False

    def _create_copy(self, copy: _CopyTarget, reader: MemberReader) -> tuple[CopiedDatabase, Sequence[str]]:
        signals.raise_if_interrupted()
        member, target, done = copy.member, str(copy.url), 0

        def progress(share: float) -> None:
            nonlocal done
            self._advance(max(0, int(share * member.size) - done))
            done = max(done, int(share * member.size))

        # A copy is private to the user who creates it: the permissions of the original are not applied.
        facts = {name: fact for name, fact in member.dump.metadata.items() if name != "mode"}
        with reader.open_decoded(self._manifest, member, target) as path:
            reader.wait_until_synced(self._manifest, member)
            loaded = (
                registry.load_engine(copy.url.engine)
                .restore_target(copy.url, target)
                .load(
                    path,
                    structs.replace(member.dump, metadata=facts),
                    timeout=self._timeout,
                    progress=progress,
                    can_consume=needs_decoding(member),
                )
            )
        rows, tables = sum(member.rows.values()), len(member.rows)
        result = CopiedDatabase(
            database=member.database, url=target, strategy=loaded.method, rows=rows, tables=tables
        )
        return result, [f"{target}: {text}" for text in loaded.remarks]


def _assign_urls(
    app: App, repository: Repository, manifest: Manifest, to: Mapping[str, Url]
) -> list[_CopyTarget]:
    members = {
        member.database: member for member in select_members(app, repository, manifest, replaces_live=False)
    }
    if list(to) == ["main"] and "main" not in members:
        if len(members) > 1:
            names = ", ".join(members)
            raise UsageError(
                detail=f"{manifest.id} contains {names}; choose with --to NAME=URL (repeatable) or --db NAME"
            )
        to = dict.fromkeys(members, to["main"])
    for name in to:
        app.database(name)
        if name not in members:
            address = repository.store.location
            raise BackupMissingError(name=manifest.id, app=f"{app.name}/{name}", place=address, suggestion="")
    # A path without scheme belongs to the engine of the backup.
    return [
        _CopyTarget(member=members[name], url=resolve_engine(url, [members[name].engine]))
        for name, url in to.items()
    ]


def _require_other_location(app: App, repository: Repository, copy: _CopyTarget) -> None:
    """Check that the address of a copy is usable, and is not a database or backup of the app.

    Raises:
        As ``CopyRestore``.
    """
    member, url = copy.member, copy.url
    require_copyable(member)
    if member.engine != url.engine:
        raise NotSupportedError(
            feature=f"restoring {member.file}",
            subject=f"{url}, which belongs to another engine",
            hint="Nothing was changed. Use an address of the backup's engine.",
        )
    if url.is_local:
        folder = Path(url.path).resolve().parent
        if not folder.is_dir():
            raise FileMissingError(kind="directory", path=folder)
        if folder.is_relative_to(Path(repository.store.location).resolve()):
            raise TargetIsSourceError(place=url, target=f"a file of the backups of {app.name}")
        # Check the target before a lock file is created next to it.
        registry.load_engine(url.engine).restore_target(url, str(url)).strategy(member.dump)
    identity = registry.load_engine(url.engine).restore_target(url, str(url)).identity()
    for name, app_url in _list_app_databases(app):
        if app_url.engine == url.engine and _read_identity(app_url, app.target(name)) == identity:
            raise TargetIsSourceError(place=url, target=app.target(name))


def _list_app_databases(app: App) -> Iterator[tuple[str, Url]]:
    for name in app.profile.databases:
        with suppress(DbctlError):  # the configuration may lack databases
            yield name, app.url(name)


def _read_identity(url: Url, target: str) -> str:
    try:
        return registry.load_engine(url.engine).restore_target(url, target).identity()
    except DbctlError:  # an unreachable database is not the reachable target
        return ""


def _build_command_line(app: App, copies: Sequence[_CopyTarget]) -> str:
    words = ["dbctl", "--profile", app.configured.profile]
    for copy in copies:
        address = (
            registry.load_engine(copy.url.engine)
            .restore_target(copy.url, str(copy.url))
            .address(copy.member.dump)
        )
        words += ["--url", f"{copy.member.database}={address}"]
    return shlex.join(words)


def estimate_size(app: App, repository: Repository, manifest: Manifest, to: Mapping[str, Url]) -> int:
    """Return the approximate number of bytes that a copy reads and writes; raises the errors of ``CopyRestore``."""
    return sum(copy.member.bytes + copy.member.size for copy in _assign_urls(app, repository, manifest, to))

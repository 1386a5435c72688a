"""``restore apply --to``: restore a backup into other databases than those of the app."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from msgspec import structs

from dbctl import progress, signals
from dbctl.engines import registry
from dbctl.engines.contract.dumps import LoadRequest, LoadResult, RestoreTarget, StagedDump
from dbctl.errors.backup import CopyPartialError, TargetIsSourceError, TargetNotEmptyError
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import FileMissingError, report_file_errors
from dbctl.errors.usage import NotSupportedError, UsageError
from dbctl.files.atomic import make_folder
from dbctl.model import ChangeResult, Effect, Plan, Row, Struct, format_count
from dbctl.services.app.app import App
from dbctl.services.backup.manifest import Member
from dbctl.services.backup.member_files import MemberReader, needs_decoding
from dbctl.services.backup.sources import count_in_bytes
from dbctl.services.restore.source import (
    BackupSource,
    RestoreOperation,
    count_content,
    count_rows,
    describe_left_out,
    find_missing_folders,
    label_member,
    require_copyable,
)
from dbctl.url import Url, resolve_engine


class CopiedDatabase(Struct, frozen=True, kw_only=True):
    """One database that was restored as a copy."""

    database: str
    url: str  #: without its password
    strategy: str  #: ``LoadResult.method``
    rows: int
    tables: int
    schema_only: Sequence[str] = ()  #: the tables that are empty, because the backup lacks their rows


def locate_record(url: Url) -> Path | None:
    """Return the path of the record next to an anonymised copy, which is wrong for other content; None: it has none on a server."""
    path = Path(url.path)
    return path.with_name(f"{path.name}.copy.json") if url.is_local else None


class CopyResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``restore apply --to``."""

    is_timed = True

    backup: str
    databases: Sequence[CopiedDatabase]
    duration: float  #: seconds
    command: str  #: the beginning of dbctl commands on the copy
    remarks: Sequence[str]  #: manual actions

    @property
    def effect(self) -> Effect | None:
        counts, place = count_content(self.databases), f"from {self.backup}"
        details = describe_left_out(self.databases)
        return Effect(
            "copied", "database", count=len(self.databases), place=place, details=details, counts=counts
        )

    def summary(self) -> Row:
        row: dict[str, object] = {}
        for database in self.databases:
            row[database.database] = (
                f"{format_count(database.rows, 'row')} of {format_count(database.tables, 'table')}, in {database.url}"
            )
        return row | {"usage": f"{self.command} COMMAND"}


class _CopyTarget(Struct, frozen=True, kw_only=True):
    """One database and the address of its copy."""

    member: Member
    url: Url

    @property
    def restore_target(self) -> RestoreTarget:
        """The database at the address, as restores use it."""
        return registry.load_engine(self.url.engine).restore_target(self.url, str(self.url))

    def moves_file(self) -> bool:
        """Return whether the decompressed file is expected to become the copy itself."""
        return self.url.is_file and self.restore_target.strategy(self.member.dump).method == "new"

    def replaces_content(self, *, allowed: bool) -> bool:
        """Return whether contents are replaced; raise TargetNotEmptyError if that is not ``allowed``."""
        restore_target = self.restore_target
        if not restore_target.exists():
            return False
        if not allowed and restore_target.has_content():
            raise TargetNotEmptyError(place=self.url)
        return allowed


class CopyRestore(RestoreOperation):
    """Restore copies of databases; the databases of the app are not opened."""

    def __init__(self, source: BackupSource, to: Mapping[str, Url], *, replace: bool = False) -> None:
        """Assign an address to each database.

        Args:
            source: the backup.
            to: address by database; a single ``main`` stands for the only selected database.
            replace: whether existing contents may be replaced.

        Raises:
            UsageError: the address of a database is ambiguous, or that of another one, too.
            NotSupportedError: the address belongs to another engine.
            TargetIsSourceError: the address is that of a database of the app.
            And as ``BackupSource.select_members``.
        """
        super().__init__(source)
        self._replace, self._copies = replace, _assign_urls(source, to)
        places = dict[tuple[str, str, str], str]()
        for copy in self._copies:
            identity = _require_other_location(source, copy)
            # the options of an address may name one of several schemas
            place = copy.url.engine, identity, copy.url.options
            if (other := places.setdefault(place, copy.member.database)) != copy.member.database:
                raise UsageError(
                    detail=f"--to {copy.url}: {other} and {copy.member.database} need different places"
                )

    @property
    def members(self) -> Sequence[Member]:
        return [copy.member for copy in self._copies]

    def size(self) -> int:
        return sum(copy.member.bytes + copy.member.size for copy in self._copies)

    def plan(self, left_out: Mapping[str, int] = {}, *, limit: str = "") -> Plan:
        """Return the copies to create; writes nothing.

        They lack the rows ``left_out``, by ``database.table``. ``limit`` precedes their numbers of rows, such as ``"up to "`` if they
        may lack further ones.
        """
        steps, is_destructive = [f"verify {self._manifest.id}: checksums, integrity, rows, schema"], False
        rows = Counter[str]()
        folders = find_missing_folders(copy.url for copy in self._copies)
        steps += [f"create the directory {folder}, which is missing" for folder in folders]
        for copy in self._copies:
            steps += copy.restore_target.strategy(copy.member.dump).steps
            steps += self._source.plan_member(copy.restore_target, copy.member, str(copy.url))
            action = f"fill {copy.url}"
            if copy.replaces_content(allowed=self._replace):
                action = f"replace the contents of {copy.url}, without a safety backup,"
                is_destructive = True
            member = _without_rows(copy.member, left_out)
            steps.append(f"{action} with {label_member(member)} ({limit}{count_rows(member)})")
            rows.update(member.rows)
        return self._create_plan(f"Copy {self._source.label}", steps, rows, destructive=is_destructive)

    def apply(self, confirmed: str | None = None) -> CopyResult:
        """Create all copies, or none.

        Raises:
            BackupMissingError: the backup was pruned since the plan; nothing was created.
            BackupCorruptError: the backup is damaged; nothing was created.
            TargetNotEmptyError: a target is no longer empty; it is unchanged.
            RolesMissingError: a server lacks roles of the backup; nothing was created.
            CopyPartialError: a destination failed, and others could not be given their previous content.
        """
        del confirmed  # the targets are checked again
        start = time.monotonic()
        with ExitStack() as stack:
            stack.enter_context(self._lock())
            self._source.require_existing()
            for folder in find_missing_folders(copy.url for copy in self._copies):
                make_folder(folder)
            for copy in self._copies:
                restore_target = copy.restore_target
                stack.enter_context(restore_target.lock(self._app.spec.name, timeout=self._app.timeout))
                restore_target.require_space(copy.member.size)
                copy.replaces_content(allowed=self._replace)
                self._source.plan_member(restore_target, copy.member, str(copy.url))
            moved_databases = [copy.member.database for copy in self._copies if copy.moves_file()]
            reader = stack.enter_context(self._source.open_reader(moved_databases=moved_databases))
            self._source.verify([copy.member for copy in self._copies], reader)
            # Before the copies: after a kill between the two, a record of a proof would vouch for original values.
            for record in filter(None, (locate_record(copy.url) for copy in self._copies)):
                with report_file_errors(record):
                    record.unlink(missing_ok=True)
            results = list(zip(self._copies, self._create_copies(reader), strict=True))
        return CopyResult(
            backup=self._manifest.id,
            databases=[_describe(copy, loaded) for copy, loaded in results],
            duration=round(time.monotonic() - start, 3),
            command=_build_command_line(self._app, self._copies),
            remarks=[
                *(f"{copy.url}: {text}" for copy, loaded in results for text in loaded.remarks),
                *_name_options(self._copies),
            ],
        )

    def _create_copies(self, reader: MemberReader) -> Sequence[LoadResult]:
        """Create the copies; of several, load and verify all of them next to their places first."""
        if len(self._copies) == 1:
            (copy,) = self._copies
            result = copy.restore_target.load(self._create_request(copy, reader))
            signals.commit_point()
            return [result]
        with ExitStack() as stack:
            staged = [
                stack.enter_context(copy.restore_target.stage(self._create_request(copy, reader)))
                for copy in progress.list_parts(self._copies, "database")
            ]
            return self._swap_all(staged)

    def _swap_all(self, staged: Sequence[StagedDump]) -> Sequence[LoadResult]:
        """Let all copies take their places; what cannot be reverted comes first, so that its failure leaves the others unchanged."""
        results = dict[int, LoadResult]()
        number = 0
        with signals.defer_signals():  # an exception at any time could hide that an engine has committed
            try:
                for number in sorted(range(len(staged)), key=lambda number: staged[number].can_revert):
                    signals.raise_if_interrupted()
                    staged[number].write_marker({})
                    results[number] = staged[number].swap()
            except BaseException as error:
                with signals.block_signals():
                    self._revert(staged, list(results), number, error)
                raise
            signals.commit_point()
        return [results[number] for number in range(len(staged))]

    def _revert(
        self, staged: Sequence[StagedDump], swapped: Sequence[int], failed: int, error: BaseException
    ) -> None:
        """Give destinations their previous content again, because another one failed with ``error``.

        Raises:
            CopyPartialError: some keep their copies.
        """
        failures = dict[str, object]()
        for number in reversed(swapped):
            try:
                if staged[number].can_revert:
                    staged[number].revert()
                else:
                    failures[str(self._copies[number].url)] = "its content was replaced in place"
            except DbctlError as failure:
                failures[str(self._copies[number].url)] = failure
        if failures:
            raise CopyPartialError(
                places=", ".join(failures),
                revert_error="; ".join(map(str, failures.values())),
                place=self._copies[failed].url,
                reason=error,
            ) from error

    def _create_request(self, copy: _CopyTarget, reader: MemberReader) -> LoadRequest:
        signals.raise_if_interrupted()
        member, target = copy.member, str(copy.url)
        # A copy is private to the user who creates it: the permissions of the original are not applied.
        facts = {name: fact for name, fact in member.dump.metadata.items() if name != "mode"}
        path = reader.decode(self._manifest, member, target)
        reader.wait_until_synced(self._manifest, member)
        return LoadRequest(
            path=path,
            dump=structs.replace(member.dump, metadata=facts),
            timeout=self._app.timeout,
            progress=count_in_bytes((member.size, progress.advance)),
            can_consume=needs_decoding(member),
            roles=self._source.read_role_policy(member, reader),
        )


def _without_rows(member: Member, left_out: Mapping[str, int]) -> Member:
    rows = {
        table: count - left_out.get(f"{member.database}.{table}", 0) for table, count in member.rows.items()
    }
    return structs.replace(member, rows=rows)


def _describe(copy: _CopyTarget, loaded: LoadResult) -> CopiedDatabase:
    rows = copy.member.rows
    return CopiedDatabase(
        database=copy.member.database,
        url=str(copy.url),
        strategy=loaded.method,
        rows=sum(rows.values()),
        tables=len(rows),
        schema_only=copy.member.schema_only,
    )


def _assign_urls(source: BackupSource, to: Mapping[str, Url]) -> list[_CopyTarget]:
    members = {member.database: member for member in source.select_members(replaces_live=False)}
    if list(to) == ["main"] and "main" not in members:
        if len(members) > 1:
            detail = f"{source.manifest.id} contains {', '.join(members)}"
            raise UsageError(detail=f"{detail}; choose with --to NAME=URL (repeatable) or --db NAME")
        to = dict.fromkeys(members, to["main"])
    for name in to:
        source.app.database(name)
        if name not in members:
            raise source.missing_error(name)
    # A path without scheme belongs to the engine of the backup.
    return [
        _CopyTarget(member=members[name], url=resolve_engine(url, [members[name].engine]))
        for name, url in to.items()
    ]


def _require_other_location(source: BackupSource, copy: _CopyTarget) -> str:
    """Check that the address of a copy is usable, and is not a database or backup of the app; return its identity.

    Raises:
        As ``CopyRestore``.
    """
    app, member, url = source.app, copy.member, copy.url
    require_copyable(member)
    if member.engine != url.engine:
        raise NotSupportedError(
            feature=f"restoring {member.file}",
            subject=f"{url}, which belongs to another engine",
            hint="Nothing was changed. Use an address of the backup's engine.",
        )
    if url.is_local:
        folder = Path(url.path).resolve().parent
        if not (find_missing_folders([url]) or folder.is_dir()):
            raise FileMissingError(kind="directory", path=folder)
        if folder.is_relative_to(Path(source.repository.store.location).resolve()):
            raise TargetIsSourceError(place=url, target=f"a file of the backups of {app.name}")
        # Check the target before a lock file is created next to it.
        copy.restore_target.strategy(member.dump)
    identity = copy.restore_target.identity()
    for name in app.profile.databases:
        if _has_identity(app, name, url.engine, identity):
            raise TargetIsSourceError(place=url, target=app.target(name))
    return identity


def _has_identity(app: App, database: str, engine: str, identity: str) -> bool:
    try:
        return app.url(database).engine == engine and app.restore_target(database).identity() == identity
    except DbctlError:  # it is not configured, or not reachable as the target is
        return False


def _build_command_line(app: App, copies: Sequence[_CopyTarget]) -> str:
    words = ["dbctl", "--profile", app.configured.profile]
    for copy in copies:
        address = copy.restore_target.address(copy.member.dump)
        words += ["--url", f"{copy.member.database}={address}"]
    return shlex.join(words)


def _name_options(copies: Sequence[_CopyTarget]) -> Iterator[str]:
    """Yield what the commands on a copy lack: the options of its address, except for the schema."""
    for copy in copies:
        if names := [name for name in copy.url.option_names if name != "schema"]:
            yield f"{copy.url}: commands on the copy need the options of --to: {', '.join(names)}"

"""``transfer upgrade``: the databases of an app on another server of the same engine, as on one of a newer version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import structs

from dbctl import progress
from dbctl.engines import registry
from dbctl.errors.base import Exit, Remedy
from dbctl.errors.usage import NotSupportedError, UsageError
from dbctl.extensions.transfer.endpoints import Endpoints, name_options
from dbctl.extensions.transfer.run import TransferVerification, verify_transfer
from dbctl.model import ChangeResult, Effect, Plan, Row, Struct, format_count, join_first
from dbctl.services.app.app import App
from dbctl.services.app.change import Operation
from dbctl.services.restore.copy import CopyRestore
from dbctl.services.restore.source import BackupSource
from dbctl.services.setup.containers import is_route, read_server_url
from dbctl.url import Url, find_engine, parse_url

#: Differences of a database that a remark names.
MAX_NAMES = 5


class UpgradedDatabase(Struct, frozen=True, kw_only=True):
    """One database on the new server."""

    database: str
    source: str  #: its address on the old server, without its password
    destination: str  #: that for the app: the same user and name on the new server
    rows: int
    tables: int
    equal: bool  #: whether both servers have the same rows, objects and counters
    differences: Sequence[str]  #: tables and objects
    #: objects of the dump whose definition another version of the server writes in other words
    reworded: Sequence[str]


class UpgradeResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``transfer upgrade``."""

    is_timed = True

    source_version: str
    destination_version: str
    databases: Sequence[UpgradedDatabase]
    remarks: Sequence[str]  #: roles that were created, differences, and what the admin does next

    @property
    def effect(self) -> Effect | None:
        counts = {name: sum(getattr(each, name) for each in self.databases) for name in ("tables", "rows")}
        place = f"to version {self.destination_version}"
        return Effect("copied", "database", count=len(self.databases), place=place, counts=counts)

    @property
    def exit_status(self) -> int:
        return Exit.OK if all(each.equal for each in self.databases) else Exit.CHECK_FAILED

    def summary(self) -> Sequence[Row]:
        fields = ("database", "destination", "tables", "rows", "equal")
        return [{field: getattr(each, field) for field in fields} for each in self.databases]


class UpgradeServer(Operation):
    """Load a backup of the current state into new databases of another server, and compare them with those of the old one."""

    def __init__(self, source: BackupSource, server: Url) -> None:
        """Set the server; the databases have the names of the old ones.

        Raises:
            As ``CopyRestore``.
        """
        self._live = source.app
        names = [member.database for member in source.select_members(replaces_live=False)]
        self._urls = {name: structs.replace(server, path=self._live.url(name).path) for name in names}
        super().__init__(source.app)
        self._copy = CopyRestore(source, self._urls)

    def size(self) -> int:
        """Return the number of bytes to process."""
        return self._copy.size()

    def plan(self) -> Plan:
        """Return what is created on the new server; raises as ``CopyRestore.plan``."""
        plan, steps = self._copy.plan(), list[str]()
        versions = " to ".join(self._read_versions())
        for name in self._urls:
            sessions = self._live.reader(name).server
            count = len(sessions.list_sessions()) if sessions else 0
            if count:
                number = format_count(count, "session")
                steps.append(
                    f"note: {number} of {self._live.target(name)}: stop the app, or what it writes is lost"
                )
        compare = "compare each table, object and counter with the old server, which remains unchanged"
        title = f"Upgrade {', '.join(self._urls)} from version {versions}"
        return structs.replace(plan, title=title, steps=[*steps, *plan.steps, compare])

    def apply(self, confirmed: str | None = None) -> UpgradeResult:
        """Create and compare the databases; raises as ``CopyRestore.apply``."""
        copied = self._copy.apply(confirmed)
        databases, remarks, addresses = list[UpgradedDatabase](), list(copied.remarks), dict[str, str]()
        old_version, new_version = self._read_versions()
        for copy in progress.list_parts(copied.databases, "database"):
            url = self._urls[copy.database]
            verification = verify_transfer(Endpoints(self._live, url, copy.database), tries_writes=False)
            different, reworded = list_objects(verification, is_same_version=old_version == new_version)
            differences = [*list_tables(verification), *different]
            own = self._live.url(copy.database)
            address = structs.replace(url, user=own.user, password=own.password)
            addresses[copy.database] = address.command_text
            databases.append(
                UpgradedDatabase(
                    database=copy.database,
                    source=str(own),
                    destination=str(address),
                    rows=copy.rows,
                    tables=copy.tables,
                    equal=not differences,
                    differences=differences,
                    reworded=reworded,
                )
            )
        remarks += [
            f"{each.database} differs: {'; '.join(each.differences[:MAX_NAMES])}"
            for each in databases
            if not each.equal
        ]
        remarks += [
            f"to use it, set databases.{each.database} of {self._live.name}, and the address in the app, to {addresses[each.database]}{name_options(self._urls[each.database])}"
            for each in databases
            if each.equal
        ]
        remarks += [
            f"{each.database}: check the definitions of {join_first(each.reworded, MAX_NAMES)}, which version {new_version} writes in other words"
            for each in databases
            if each.reworded
        ]
        return UpgradeResult(
            source_version=old_version, destination_version=new_version, databases=databases, remarks=remarks
        )

    def _read_versions(self) -> tuple[str, str]:
        """Return the versions of the old and of the new server."""
        name, url = next(iter(self._urls.items()))
        new = registry.load_engine(url.engine).restore_target(url, str(url))
        return self._live.restore_target(name).read_version(), new.read_version()


def list_tables(verification: TransferVerification) -> Sequence[str]:
    """Return the tables whose rows differ."""
    return [
        f"table {table.table}: {table.source_rows} and {table.destination_rows} rows, with other content"
        for table in verification.tables
        if not table.equal
    ]


def list_objects(
    verification: TransferVerification, *, is_same_version: bool
) -> tuple[Sequence[str], Sequence[str]]:
    """Return the objects that differ, and those that another version may only write in other words: the dump has created them."""
    different, reworded = list[str](), list[str]()
    for part in verification.objects:
        if part.difference == "different" and not is_same_version:
            reworded.append(f"{part.kind} {part.name}")
        else:
            different.append(f"{part.kind} {part.name}: {part.difference}")
    return different, reworded


def find_server(app: App, to: str) -> Url:
    """Return the address of the server that ``--to`` names: that of a server without a database, or the route to a container.

    Raises:
        UsageError: it names a database, or the app has databases of several engines.
        NotSupportedError: it has another engine than the databases of the app.
        UnreachableError: the container cannot be reached.
    """
    names = [app.only] if app.only else list(app.profile.databases)
    engines: Mapping[str, str] = {name: app.url(name).engine for name in names}
    engine, *others = sorted(set(engines.values()))
    if others:
        raise UsageError(
            detail=f"{app.name} has databases of several engines: {', '.join(engines)}; choose one with --db NAME"
        )
    if is_route(to):
        url = structs.replace(read_server_url(to, app.url(names[0]).path), path="")
    else:
        url = parse_url(to)
    entry = find_engine(engine)
    if url.engine != engine or entry is None or entry.kind != "server":
        hint = Remedy("To move to another engine, run: `transfer run --to {url}`").write(facts={"url": url})
        title = registry.load_engine(engine).title
        raise NotSupportedError(
            feature=f"an upgrade from {title}", subject=f"{url}, which is no server of it", hint=hint
        )
    if url.path:
        raise UsageError(
            detail=f"--to {url} names a database; pass the address of the server, whose databases get the names of the old ones"
        )
    return url

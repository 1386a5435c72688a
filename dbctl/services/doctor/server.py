"""Checks of databases on servers: settings, warnings of the engine, indexes, leftovers of drills."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing

from dbctl.engines import registry
from dbctl.engines.contract import Advisor, Index, IndexMonitor, ProgramUser, SettingComparison, Table
from dbctl.model import Finding
from dbctl.services.app import App
from dbctl.services.doctor.context import CheckContext
from dbctl.services.integrity import create_finding

MAX_NAMED = 5  #: constraints in a message


def check_indexes(context: CheckContext, db: IndexMonitor, tables: Mapping[str, Table]) -> Iterator[Finding]:
    """Yield duplicate constraints, and columns that lack the index of the profile."""
    indexes = db.list_indexes()
    yield from _check_constraints(context, indexes)
    yield from _check_columns(context, indexes, tables)


def _check_constraints(context: CheckContext, indexes: Sequence[Index]) -> Iterator[Finding]:
    """Yield tables with several unique constraints over the same columns, which some libraries add at every start.

    Other duplicate indexes are reported by ``stats indexes`` only: the app creates them again when it starts.
    """
    groups: dict[tuple[str, Sequence[str]], list[Index]] = {}
    for index in indexes:
        if index.constraint and index.unique and not index.primary and not index.where:
            groups.setdefault((index.table, tuple(index.columns)), []).append(index)
    for (table, columns), group in groups.items():
        # Constraints that foreign keys need come first, then the oldest, whose name has no number.
        group.sort(key=lambda index: (not index.is_referenced, len(index.name), index.name))
        removable = [index for index in group[1:] if not index.is_referenced]
        if removable:
            names = ", ".join(index.name for index in removable[:MAX_NAMED]) + (
                " …" if len(removable) > MAX_NAMED else ""
            )
            message = f"{table} has {len(group)} unique constraints over {', '.join(columns)}, which slow every write: {names}"
            drop = "; ".join(index.drop_statement.rstrip("; ") for index in removable)
            yield context.create_finding("warning", "duplicate-constraint", message, f"{drop};")


def _check_columns(
    context: CheckContext, indexes: Sequence[Index], tables: Mapping[str, Table]
) -> Iterator[Finding]:
    """Yield the columns that the profile lists as indexed, and with which no index of all rows begins."""
    first = {
        (index.table, index.columns[0].split(" ")[0].strip('"`'))
        for index in indexes
        if index.columns and index.valid and not index.where
    }
    for path in context.section.indexed:
        table, _, column = path.partition(".")
        if table in tables and column in tables[table].columns and (table, column) not in first:
            message = f"no index begins with {path}, so each read by this column reads every row of {table}"
            hint = f"create index idx_{table}_{column} on {table} ({column});"
            yield context.create_finding("warning", "column-unindexed", message, hint)


def check_server(context: CheckContext, db: Advisor) -> Iterator[Finding]:
    """Yield warnings of the engine, and settings that differ from the recommendations of the profile."""
    for warning in db.server_findings(writing=context.is_writable):
        yield create_finding(context.target, warning)
    engine = context.app.url(context.database).engine
    recommended = next(
        (settings for name, settings in context.section.recommended.items() if name == engine), {}
    )
    for setting in db.compare_settings({name: _format_value(value) for name, value in recommended.items()}):
        if not setting.is_sufficient:
            yield _describe_setting(context, setting)


def check_programs(dumps: ProgramUser) -> Iterator[Finding]:
    """Yield nothing; raise the error of the first backup if its programs are missing or older than the server."""
    dumps.require_programs()
    yield from ()


def check_scratch(app: App) -> Iterator[Finding]:
    """Yield leftovers of drills on the configured scratch server.

    Raises:
        DbctlError: the server cannot be reached.
    """
    url = app.configured.scratch
    if url is None:
        return
    with closing(registry.load_engine(url.engine).open_for_reading(url, app.name, timeout=app.timeout)) as db:
        if advisor := db.part(Advisor):
            for warning in advisor.find_abandoned():
                yield create_finding(app.name, warning)


def _describe_setting(context: CheckContext, setting: SettingComparison) -> Finding:
    if setting.actual is None:
        message = (
            f"the server has no setting {setting.name}, which is recommended for {context.app.profile.title}"
        )
        return context.create_finding("info", "setting-unknown", message)
    text = (
        f"{setting.name} is {setting.actual}; recommended for {context.app.profile.title}: {setting.required}"
    )
    if setting.is_pending:
        return context.create_finding(
            "info", "setting-below", f"{text}; the new value is active after a restart of the server"
        )
    method = (
        "requires a restart of the server"
        if setting.requires_restart
        else "requires a reload of the configuration"
    )
    return context.create_finding("info", "setting-below", f"{text} ({method})", setting.statement)


def _format_value(value: str | float | bool) -> str:  # noqa: FBT001 - a value, not a flag
    return ("on" if value else "off") if isinstance(value, bool) else str(value)

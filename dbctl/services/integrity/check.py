"""Whether the databases of an app are sound."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from dbctl.engines.contract import (
    Advises,
    Capability,
    Checks,
    Concern,
    Condition,
    IndexDifference,
    Not,
    Orphans,
    Readable,
    Within,
)
from dbctl.errors import (
    CorruptError,
    DatabaseUnsetError,
    DbctlError,
    Exit,
    PrivilegeMissingError,
    QueryFailedError,
    SchemaLacksError,
)
from dbctl.model import Finding, Findings, Severity, Value, counted
from dbctl.services.app import MASK, App, cut, hidden
from dbctl.services.integrity.interrupted_restore import cut_off
from dbctl.services.integrity.stored_violations import mixed_times, stored_faults

DAMAGED = CorruptError.remedy
REINDEX = "Keep a copy. The table keeps its rows when the index is rebuilt: dbctl maintain reindex"
DECIDE = (
    "Nothing shows whether the table or the index is damaged, and a rebuilt index takes the values of the table."
    " Keep a copy, correct the rows (dbctl restore recover --to FILE reads both), and rebuild the index last."
)
#: Rows whose values are listed where an index differs from its table.
LISTED_DIFFERENCES = 3
TWICE = "Two rows hold what may be there only once. Keep a copy and settle which of them stays; only then can the index be made anew (REINDEX)."
LOST = "After a crash the last one may be half written. Else keep a copy of file and -wal before the app starts again."
OTHERS_INDEX = "Rebuild it from its rows, as the program that made it does."
LOOSE = "Delete these rows, or bring back what they point to."


class Checked(Value, frozen=True, kw_only=True):
    """What a check answers, and how it ends."""

    findings: Findings
    status: Exit


def check(app: App, *, quick: bool = False, table: str = "") -> Checked:
    """Look into every configured database; what is wrong with one does not keep the others from being looked at.

    Args:
        app: the app.
        quick: whether to leave out what takes long.
        table: the one table that is looked at.

    Raises:
        SchemaLacksError: no database has that table.
        DatabaseUnsetError: the only one that is meant is not configured.
    """
    checked, findings, failures = 0, list(cut_off(app)), list[DbctlError]()
    for name, told in app.profile.databases.items():
        if app.only not in ("", name):
            continue
        try:
            live = app.reader(name)
            if table and table not in live.tables():
                continue
            findings += _looked_into(app, name, live, failures, quick=quick, table=table)
        except DatabaseUnsetError as error:
            if app.only == name:
                raise
            if not told.optional:
                findings.append(failure(app.target(name), error, "warning"))
            continue
        except DbctlError as error:
            failures.append(error)
            findings.append(failure(app.target(name), error))
        checked += 1
    if table and not (checked or findings):
        raise SchemaLacksError(target=app.name, what=f"table {table}", purpose="--table")
    return Checked(
        findings=Findings(checked=checked, findings=findings), status=status_of(findings, failures)
    )


def _looked_into(
    app: App, name: str, live: Readable, failures: list[DbctlError], *, quick: bool, table: str
) -> list[Finding]:
    """Return what is found; what this user may not read does not keep other tables from being looked into."""
    try:
        return list(_findings(app, name, live, quick=quick, table=table))
    except PrivilegeMissingError:
        if table:
            raise
    found: list[Finding] = []
    for one in (each.name for each in live.tables().values() if not each.view):
        try:
            found += list(_findings(app, name, live, quick=quick, table=one))
        except PrivilegeMissingError as error:
            failures.append(error)
            found.append(failure(app.target(name), error))
    return found


def _findings(app: App, name: str, live: Readable, *, quick: bool, table: str) -> Iterator[Finding]:
    target = app.target(name)
    if Capability.CHECK not in live.capabilities or not isinstance(live, Checks):
        message = "its engine does not tell whether it is sound"
        yield Finding(target=target, severity="info", code="not-checked", message=message)
        return
    damage = list(_damage(app, name, live, live.damage(quick=quick, table=table)))
    yield from damage
    if not (quick or table) and (lost := live.lost_commits()):
        yield Finding(target=target, severity="warning", code="commits-lost", message=_lost(lost), hint=LOST)
    damaged = any(finding.code == CorruptError.code for finding in damage)
    try:
        yield from _loose(app, name, live, table)
        yield from _unowned(app, name, live, table)
    except (QueryFailedError, CorruptError) as error:
        if not (damaged and isinstance(error, CorruptError)):  # reported above, with its place
            yield failure(target, error, "error" if app.database(name).foreign_keys else "warning")
    if not (quick or damage):  # rows of a damaged table may not be what they seem
        yield from stored_faults(app, name, live, table)
        yield from mixed_times(app, name, live, table)
    if Capability.ADVISE in live.capabilities and isinstance(live, Advises):
        given = {f"{one.table}.{one.row.key}" for one in app.profile.settings if one.row}
        for one in live.flaws(table):
            if one.column not in given:  # the app gives that key itself, and asks no sequence
                yield concern(target, one)
    indexes = [one for one in live.text_indexes() if not quick and table in ("", one)]
    if indexes:
        yield from text_index_damage(app, name, indexes)


def concern(target: str, one: Concern) -> Finding:
    """Return what an engine tells of a database as one of its findings."""
    return Finding(target=target, severity=one.severity, code=one.code, message=one.message, hint=one.hint)


def _damage(app: App, database: str, live: Checks, lines: Sequence[str]) -> Iterator[Finding]:
    """Yield damage in the words of the engine, and what is wrong with an index once, however many of its rows are."""
    target = app.target(database)
    indexes: dict[str, list[str]] = {}
    twice: set[str] = set()
    others: list[str] = []
    for line in lines:
        about = live.index_damage(line)
        if about is None:
            others.append(line)
            continue
        indexes.setdefault(about.index, []).append(line)
        twice |= {about.index} if about.twice else set()
    for message in gathered(others):
        yield Finding(target=target, severity="error", code="corrupt", message=message, hint=DAMAGED)
    for name, told in indexes.items():
        rest = f", and {len(told) - 1} more such" if len(told) > 1 else ""
        message = f"index {name} does not agree with its table ({told[0]}{rest})"
        differences = live.index_differences(name, LISTED_DIFFERENCES)
        if differences:
            message += f": {'; '.join(_values(app, database, differences))}"
        hint = DAMAGED if others else TWICE if name in twice else DECIDE if differences else REINDEX
        yield Finding(target=target, severity="error", code="index", message=message, hint=hint)


def _values(app: App, database: str, differences: Sequence[IndexDifference]) -> Iterator[str]:
    """Yield the values that a table and an index hold for the same row; secrets are masked."""
    secret = hidden(app, database, app.reader(database), [differences[0].table])
    for row in differences:
        masked = secret.get(row.table, ())
        for column, *values in zip(row.columns, row.in_table, row.in_index, strict=True):
            in_table, in_index = (MASK if column in masked else cut(ascii(value)) for value in values)
            yield f"{row.row}, {column}: {in_table} in the table, {in_index} in the index"


def gathered(lines: Sequence[str]) -> Iterator[str]:
    """Yield one line of each kind, with how many differ from it only in their numbers: a damaged index has one for each row."""
    kinds = dict[str, list[str]]()
    for line in lines:
        kinds.setdefault(re.sub(r"[0-9]+", "0", line), []).append(line)
    for first, *more in kinds.values():
        yield f"{first} (and {len(more)} more of this kind)" if more else first


def _lost(number: int) -> str:
    return (
        f"{counted(number, 'commit')} beside the file cannot be read any more: what precedes them is damaged"
    )


def _loose(app: App, name: str, live: Checks, table: str) -> Iterator[Finding]:
    told = app.database(name)
    severity: Severity = "error" if told.foreign_keys else "warning"
    owner = told.owner or "the program that writes it"
    hint = LOOSE if told.foreign_keys else f"{owner[:1].upper()}{owner[1:]} does not keep foreign keys."
    for one in live.orphans(table):
        yield Finding(
            target=app.target(name),
            severity=severity,
            code="foreign-key-orphans",
            message=_orphans(one),
            hint=hint,
        )


def _orphans(one: Orphans) -> str:
    verb = "points" if one.number == 1 else "point"
    example = f" ({one.example})" if one.number == 1 else f" (the first: {one.example})"
    told = f"{counted(one.number, 'row')} of {one.table} {verb} with {', '.join(one.columns)} to nothing in {one.to}"
    return told + (example if one.example else "")


def _unowned(app: App, name: str, live: Readable, table: str) -> Iterator[Finding]:
    """Look for rows of users who are gone, where only the profile says whose they are."""
    told = app.profile.users
    if told is None or (told.database or app.main()) != name or told.table not in live.tables():
        return
    tables = live.tables()
    declared = {(one.table, one.columns[0]) for one in live.references(told.table) if len(one.columns) == 1}
    for one in told.owns:
        child, _, column = one.partition(".")
        if (child, column) in declared or child not in tables or table not in ("", child):
            continue
        if column not in tables[child].columns:
            continue
        belongs = Within([column], told.table, [told.id.column])
        number = live.count(child, [Condition(column, "!=", None), Not(belongs)])
        if number:
            found = Orphans(table=child, columns=[column], to=told.table, number=number, example=None)
            yield Finding(
                target=app.target(name),
                severity="warning",
                code="foreign-key-orphans",
                message=_orphans(found),
                hint=LOOSE,
            )


def text_index_damage(
    app: App, name: str, indexes: Sequence[str], purpose: str = "integrity check", hint: str = OTHERS_INDEX
) -> Iterator[Finding]:
    """Look into indexes for searching text, which takes the right to write though nothing stays written."""
    target = app.target(name)
    try:
        with app.writer(name, purpose) as db:
            for one in indexes:
                if isinstance(db, Checks) and (reason := db.text_index_damage(one)):
                    message = f"{one}, an index for searching text, does not agree with its rows: {reason}"
                    yield Finding(
                        target=target, severity="error", code="text-index", message=message, hint=hint
                    )
    except DbctlError as error:
        message = f"{', '.join(indexes)}: indexes for searching text were not looked into ({error})"
        yield Finding(target=target, severity="info", code="text-index-not-checked", message=message)


def status_of(findings: list[Finding], failures: list[DbctlError]) -> Exit:
    """Return 4 where a database is unsound; else what kept one from being looked at."""
    failed = {error.code: error.exit_status for error in failures}
    told = [failed.get(one.code, Exit.UNSOUND) for one in findings if one.severity == "error"]
    return Exit.UNSOUND if Exit.UNSOUND in told else next(iter(told), Exit.OK)


def failure(target: str, error: DbctlError, severity: Severity = "error") -> Finding:
    """Return what kept a check from going on as one of its findings."""
    return Finding(target=target, severity=severity, code=error.code, message=str(error), hint=error.hint)

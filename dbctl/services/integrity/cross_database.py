"""Whether what an app keeps in several places, or in several databases, agrees: what no foreign key can say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from dbctl.engines.contract import Condition, Readable
from dbctl.engines.sql import ident, is_storable
from dbctl.errors import DatabaseUnsetError, DbctlError, NotSupportedError
from dbctl.model import Finding, Findings, counted
from dbctl.profiles.model import CrossLink, Flaw, KeySearch, Rebuild, Recount
from dbctl.services.app import App, Live, database_of, find_column, may_lack, unconfigured
from dbctl.services.integrity import exposed_keys, known_problems
from dbctl.services.integrity.check import Checked, failure, status_of
from dbctl.services.integrity.duplicated_columns import Repeats
from dbctl.services.integrity.interrupted_restore import cut_off
from dbctl.services.sessions import figures_of

#: Values that are looked up at a time; memory does not grow with the tables.
BATCH = 5_000
EXAMPLES = 5
MEND = "dbctl integrity repair brings them in line."
WANTING = "The app makes such a row with the other one, and never later: dbctl integrity repair lists them."
NONE_MADE = "The app makes the table with the first such row. Where there was one, the path is another one, or a backup holds it."
DERIVED = "The rest of the row was made of the older text: it has to be made anew."
TWICE = "The app adds another one when it makes it anew; what asks for the nearest rows finds both."
PLACEHOLDERS = "dbctl integrity repair --delete-orphans deletes them."


def cross(app: App) -> Checked:
    """Look for rows whose other half is missing, and for figures that a recount does not give, and rows that should not be.

    Raises:
        AbilityMissingError: the profile tells of neither.
    """
    wanted: list[CrossLink | Recount | Rebuild | Flaw | KeySearch] = [
        *app.profile.link,
        *app.profile.recount,
        *app.profile.flaw,
        *app.profile.key_search,
        *app.profile.rebuild,
    ]
    app.ability(wanted, "cross checks")
    findings, failures = list(cut_off(app)), list[DbctlError]()
    checked = 0
    for told in wanted:
        name = database_of(app) if isinstance(told, Rebuild) else told.database or app.main()
        databases = {name, told.to} if isinstance(told, CrossLink) else {name}
        if app.only and databases != {app.only}:
            continue
        if app.database(name).optional and name not in app.configured.databases:
            findings += unconfigured.findings(app, name)
            continue  # what is not there names nothing
        try:
            found = _found(app, name, told)
        except DatabaseUnsetError as error:
            message = f"{told.name}: {error}"
            findings.append(
                Finding(
                    target=app.target(name),
                    severity="info",
                    code="not-checked",
                    message=message,
                    hint=error.hint,
                )
            )
            continue
        except DbctlError as error:
            failures.append(error)
            findings.append(failure(str(error.facts.get("target", app.target(name))), error))
            continue
        if found is not None:
            checked += len(told.figures) if isinstance(told, Rebuild) else 1
            findings += found
    # A database that cannot be read is told once, however much was to be looked for in it.
    findings = list(dict.fromkeys(findings))
    return Checked(
        findings=Findings(checked=checked, findings=findings), status=status_of(findings, failures)
    )


def _found(
    app: App, name: str, told: CrossLink | Recount | Rebuild | Flaw | KeySearch
) -> list[Finding] | None:
    """Return what is found; None where the deployment has nothing to look at."""
    if isinstance(told, CrossLink):
        return _link(app, name, told)
    if isinstance(told, Flaw):
        seen = known_problems.flawed(app, app.reader(name), told)
        return [_flaw(app, name, told, seen.message)] if seen else []
    if isinstance(told, Recount):
        return _recount(app, name, told)
    if isinstance(told, KeySearch):
        return list(exposed_keys.findings(app, name, told))
    figures = figures_of(app, app.reader(name), told)
    if figures is None:
        return None
    each = [
        Recount(
            name=f"{told.name}, {figure}",
            sql=figures.disagreeing(figure),
            severity=told.severity,
            hint=told.hint,
        )
        for figure in told.figures
    ]
    return [finding for one in each for finding in _recount(app, name, one) or ()]


def _flaw(app: App, name: str, told: Flaw, message: str) -> Finding:
    return Finding(
        target=app.target(name), severity=told.severity, code="flaw", message=message, hint=told.hint
    )


def _link(app: App, name: str, told: CrossLink) -> list[Finding] | None:
    here = app.reader(name)
    live = here.tables().get(told.table)
    if told.optional and live is None:
        return _none_made(app, name, told)
    if live and find_column(live, told.column) is None and may_lack(told.column):
        return None
    if told.repeats or told.every:
        return list(_repeated(app, name, told))
    there = app.reader(told.to)
    naming = Live(app.profile, here, told.table, told.name).get(told.column)
    known = [place.rpartition(".")[::2] for place in told.among]
    first, *further = known
    known = [first, *(place for place in further if place[0] in there.tables())]
    lost, former, values = _Lost(), _Lost(), 0
    before = [told.formerly.rpartition(".")[::2]] if told.formerly else []
    before = [
        (table, column) for table, name in before if (column := find_column(there.tables().get(table), name))
    ]
    for batch in _batches(here, told.table, naming):
        values += len(batch)
        missing = _not_in(there, known, [value for value in batch if value not in told.placeholders])
        unknown = _not_in(there, before, missing)
        lost.add(batch, unknown)
        former.add(batch, [value for value in missing if value not in set(unknown)] if before else [])
    target, place = app.target(name), f"{told.table}.{naming}"
    found = []
    if former.values:
        message = f"{told.name}: {counted(former.rows, 'row')} of {told.table} still name what is called otherwise in {told.to} by now: {former.listed()}"
        found.append(Finding(target=target, severity="warning", code="formerly", message=message, hint=MEND))
    if lost.values:
        verb = "is" if lost.values == 1 else "are"
        message = (
            f"{told.name}: {lost.values} of {counted(values, 'value')} of {place} {verb} not in {told.to}"
            f" ({counted(lost.rows, 'row')}): {lost.listed()}"
        )
        found.append(
            Finding(
                target=target, severity=told.severity, code="not-in-other", message=message, hint=told.hint
            )
        )
    return found


def _none_made(app: App, name: str, told: CrossLink) -> list[Finding] | None:
    """Return what is wanting where the table is not there; None where nothing had to be in it."""
    table = told.among[0].rpartition(".")[0]
    number = app.reader(told.to).count(table) if told.every else 0
    if not number:
        return None
    lacks = "has" if number == 1 else "have"
    message = (
        f"{told.name}: there is no table {told.table}, and {counted(number, 'row')} of {table} in {told.to}"
        f" {lacks} no row there"
    )
    return [
        Finding(target=app.target(name), severity="warning", code="wanting", message=message, hint=NONE_MADE)
    ]


class _Lost:
    """Values that are not where they should be, how many rows hold them, and some of them."""

    def __init__(self) -> None:
        self.values = self.rows = 0
        self._examples: list[object] = []

    def add(self, batch: Mapping[object, int], values: Sequence[object]) -> None:
        self.values += len(values)
        self.rows += sum(batch[value] for value in values)
        self._examples += values[: EXAMPLES - len(self._examples)]

    def listed(self) -> str:
        return _listed(self._examples, self.values)


def _not_in(there: Readable, places: Sequence[tuple[str, str]], values: Sequence[object]) -> list[object]:
    """Return the values that no place holds, those first that none could hold."""
    lost = [value for value in values if not _stand(value)]
    left = [value for value in values if _stand(value)]
    for table, column in places:
        known = set()
        if left:
            known = {row[0] for row in there.select(table, [column], [Condition(column, "in", left)])}
        left = [value for value in left if value not in known]
    return lost + left


def _repeated(app: App, name: str, told: CrossLink) -> Iterator[Finding]:
    """Tell what comparing every row with the one that it repeats has shown."""
    pair = Repeats(app, name, told)
    seen = pair.compared()
    target, table = app.target(name), told.table
    if seen.loose.number:
        message = (
            f"{told.name}: {seen.loose_rows} of {counted(seen.rows, 'row')} of {table} name no row of {pair.table}"
            f" in {told.to}: {_listed(seen.loose.examples, seen.loose.number)}"
        )
        yield Finding(
            target=target, severity=told.severity, code="not-in-other", message=message, hint=told.hint
        )
    if told.every and seen.wanting.number:
        lacks = "has" if seen.wanting.number == 1 else "have"
        message = (
            f"{told.name}: {seen.wanting.number} of {counted(seen.others, 'row')} of {pair.table} in {told.to} {lacks}"
            f" no row of {table}: {_listed(seen.wanting.examples, seen.wanting.number)}"
        )
        yield Finding(target=target, severity="warning", code="wanting", message=message, hint=WANTING)
    for column, several in seen.differing.items():
        message = (
            f"{told.name}: {table}.{column} differs from {pair.table}.{pair.columns[column]} in"
            f" {counted(several.number, 'row')}: {_listed(several.examples, several.number)}"
        )
        hint = DERIVED if column in told.derived else MEND
        yield Finding(target=target, severity="warning", code="differs", message=message, hint=hint)
    if differing := _by_user(app, pair):
        yield Finding(
            target=target,
            severity="info",
            code="per-user",
            message=f"{told.name}: {counted(len(differing), 'user')} with another number of rows of {table} than of {pair.table}: {_listed(differing[:EXAMPLES], len(differing))}",
        )
    if seen.twice.number:
        message = f"{told.name}: {counted(seen.twice.number, 'row')} of {table} repeat what another one does: {_listed(seen.twice.examples, seen.twice.number)}"
        yield Finding(target=target, severity="warning", code="twice", message=message, hint=TWICE)
    if seen.placeholders.number:
        message = f"{told.name}: {counted(seen.placeholders.number, 'row')} of {table} only made the table: {_listed(seen.placeholders.examples, seen.placeholders.number)}"
        yield Finding(target=target, severity="info", code="placeholder", message=message, hint=PLACEHOLDERS)


def _by_user(app: App, pair: Repeats) -> list[str]:
    """Return the users of whom both sides have another number of rows, those with the largest difference first."""
    users = app.profile.users
    if users is None or (users.database or app.main()) != pair.told.to:
        return []
    keys = [one.columns[0] for one in pair.there.references(users.table) if one.table == pair.table]
    found = list[tuple[int, str]]()
    for mine, theirs in pair.columns.items():
        if theirs in keys:
            here = pair.here.tally(pair.told.table, mine)
            there = pair.there.tally(pair.table, theirs)
            found += [
                (abs(here.get(user, 0) - number), f"{user} {here.get(user, 0)}, not {number}")
                for user, number in there.items()
                if here.get(user, 0) != number
            ]
    return [told for _, told in sorted(found, key=lambda one: -one[0])]


def _batches(db: Readable, table: str, column: str) -> Iterator[dict[object, int]]:
    """Yield the values of the column, each with the number of its rows, a batch at a time."""
    try:
        yield from _grouped(db, ident(table), ident(column))
    except NotSupportedError:  # without SQL, whatever different values there are come at once
        numbers = iter(db.tally(table, column).items())
        while batch := {value: number for value, number in islice(numbers, BATCH) if value is not None}:
            yield batch


def _grouped(db: Readable, table: str, column: str) -> Iterator[dict[object, int]]:
    where, given = f"{column} is not null", dict[str, object]()
    while True:
        sql = f"select {column}, count(*) from {table} where {where} group by {column} order by {column} limit {BATCH}"  # noqa: S608 - names are quoted
        batch = {value: int(str(number)) for value, number in db.query(sql, given)}
        if batch:
            yield batch
        if len(batch) < BATCH:
            return
        last = list(batch)[-1]
        where = f"{column} > :last" if _stand(last) else f"{column} > cast(:last as text)"
        given = {"last": last if _stand(last) else str(last).encode("utf-8", "surrogateescape")}


def _stand(value: object) -> bool:
    """Whether another database could hold the value at all; text that is no valid UTF-8 cannot stand for itself."""
    return not isinstance(value, str) or is_storable(value)


def _figure(value: object) -> object:
    return "none" if value is None else value


def _recount(app: App, name: str, told: Recount) -> list[Finding] | None:
    db = app.reader(name)
    if any(table not in db.tables() for table in told.needs):
        return None
    sql = f"select q.*, count(*) over () from ({told.sql}) q limit {EXAMPLES}"  # noqa: S608 - the profile's own
    rows = db.query(sql)
    if not rows:
        return []
    total = int(str(rows[0][-1]))
    examples = [
        f"{', '.join(map(str, key))}: stored {_figure(stored)}, counted {_figure(real)}"
        for *key, stored, real, _ in rows
    ]
    message = f"{told.name}: {total} disagree{'s' if total == 1 else ''} with a recount ({_listed(examples, total, '; ')})"
    return [
        Finding(
            target=app.target(name), severity=told.severity, code="recount", message=message, hint=told.hint
        )
    ]


def _listed(examples: Sequence[object], total: int, between: str = ", ") -> str:
    """Return a few of many, with bytes that are no text spelled out."""
    readable = (
        str("NULL" if one is None else one)
        .encode("utf-8", "surrogateescape")
        .decode("utf-8", "backslashreplace")
        for one in examples
    )
    return between.join(readable) + (" …" if total > len(examples) else "")

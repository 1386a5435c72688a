"""Compare a profile with the data of a live database, before a write and in ``apps check``.

A contradiction is a statement of the profile that no sampled row confirms and at least one refutes: what dbctl would write by
it, the app could not read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from dbctl.engines.contract.database import Readable
from dbctl.errors.connection import PrivilegeMissingError
from dbctl.errors.usage import ProfileContradictionError, SchemaMismatchError
from dbctl.model import Severity, Struct
from dbctl.profiles import loader
from dbctl.profiles.codecs import BOOLEANS, explain_incomparable, recognize_time
from dbctl.profiles.model.base import ColumnNames, list_names
from dbctl.profiles.model.databases import Ledger
from dbctl.profiles.model.roles import Roles
from dbctl.profiles.model.settings import Settings
from dbctl.profiles.model.users import Users
from dbctl.services.app.app import App
from dbctl.services.app.evidence import subjects
from dbctl.services.app.evidence.subjects import Check, Contradiction, DoesNotApplyError, Subject, require
from dbctl.services.app.live_table import SAMPLE_LIMIT, SAMPLE_ROWS, LiveTable, find_column, list_uncovered
from dbctl.spec import Fact

if TYPE_CHECKING:  # most commands that write clean nothing up
    from dbctl.profiles.model.cleanup import Cleanup

LEDGER_ROWS = 1000  #: sampled rows at each end of a ledger
MOST_SHOWN = 3  #: values in a message
_BOOLEAN_KEY = ("boolean",)  #: another codec, which dbctl reads, but would not write
_NUMBERS = {"0", "1"}  #: how some databases return ``true`` and ``false``
#: The forms of times that the app reads alike: texts with any separators and fractions.
_TEXT_FORMS = frozenset({"iso-ms", "sqlite-time", "iso-without-z"})


class _Column(Struct, frozen=True):
    """A column that dbctl writes, and its key in the profile."""

    key: tuple[str | int, ...]
    table: str
    names: ColumnNames


def refuse_contradictions(app: App, database: str, db: Readable, facts: Sequence[Fact]) -> None:
    """Refuse a command that would write by a fact of the profile that the data contradicts.

    Each is compared once: an app does not change the form of its values while a command runs. A table that the role may not read
    contradicts nothing: a command that depends on its rows reads them itself.

    Raises:
        ProfileContradictionError: the first contradiction, with its line and key.
    """
    if (database, facts) in app.compared:
        return
    subject = Subject(app, database, opened=db)
    for check in FACT_CHECKS:
        with suppress(PrivilegeMissingError, DoesNotApplyError):
            for problem in check.run(subject) if check.fact in facts else ():
                if isinstance(problem, Contradiction) and problem.severity == "error":
                    raise _create_error(app, db, problem)
    app.compared.add((database, facts))


def refuse_unknown_times(app: App, database: str, db: Readable, rule: Cleanup) -> None:
    """Refuse a rule whose rows have no times that dbctl can read: by Julian days, all would be due.

    Raises:
        ProfileContradictionError: as ``refuse_contradictions``.
        SchemaMismatchError: as ``LiveTable.select_variant``.
    """
    for problem in _compare_due_times(Subject(app, database, opened=db), rule):
        raise _create_error(app, db, problem)


def _create_error(app: App, db: Readable, problem: Contradiction) -> ProfileContradictionError:
    place, file = problem.locate(app), loader.path_of(app.configured.profile)
    return ProfileContradictionError(
        target=db.target,
        reason=problem.reason,
        file=file,
        line=place.line,
        key=place.key,
        remedy=problem.remedy,
    )


def _show(stored: Sequence[object]) -> str:
    shown = [ascii(value) for value in dict.fromkeys(map(str, stored)) if len(value) <= 40][:MOST_SHOWN]  # noqa: PLR2004 - a key
    return f", such as {', '.join(shown)}" if shown else ""


# Keys -----------------------------------------------------------------------------------------------------------------


def _check_keys(name: Literal["users", "roles"], subject: Subject) -> Iterator[Contradiction]:
    section: Users | Roles = require(getattr(subject.app.core, name) if subject.has_users else None)
    if isinstance(section, Users):
        key, column_name, codec = ["users", "id"], section.id.column, section.id.codec
    else:
        key, column_name, codec = ["roles"], section.key, section.codec
    table = subject.db.tables().get(section.table)
    column = table.columns.get(column_name) if table else None
    if table is None or column is None or codec == "given":
        return
    needs_value = column.required or (column.nullable and not subjects.is_whole(column))
    if codec == "autoincrement" and not needs_value:  # the database creates the keys
        return
    stored = [value for (value,) in subject.sample(table.name, [column.name])]
    actual, evidence = subjects.guess_key_codec(column, stored)
    if actual == codec or (not stored and codec != "autoincrement"):
        return
    yield Contradiction(
        (*key, "codec"),
        "key-format",
        f"keys of {section.table} are not {codec}: {evidence}{_show(stored)}",
        f'Write codec = "{actual}".',
    )


# Times and booleans ---------------------------------------------------------------------------------------------------


#: The times of which a fact consists: the field of the profile, and the fields in it that commands write.
_WRITTEN_TIMES: Mapping[Fact, tuple[str, Sequence[str]]] = {
    "user-created": ("users", ("created_at", "updated_at")),
    "user-updated": ("users", ("updated_at",)),
    "sign-out": ("", ()),  # of the rows that show who is signed in
    "role-created": ("roles", ("created_at", "updated_at")),
    "role-updated": ("roles", ("updated_at",)),
    "setting-times": ("settings", ("created_at", "updated_at")),
    "audit": ("audit", ("at",)),
}


def _check_times(fact: Fact, subject: Subject) -> Iterator[Contradiction]:
    """Yield the columns of a fact whose values have another form than that in which commands write times."""
    for written in _list_times(fact, subject):
        table = subject.db.tables().get(written.table.removesuffix("?"))
        name = find_column(table, written.names)
        if table is None or name is None or table.columns[name].native == "time":
            continue
        form = LiveTable(subject.app.core, subject.db, table.name, "times").time_form(name)
        stored = [value for (value,) in subject.sample(table.name, [name])]
        expected = _TEXT_FORMS if form in _TEXT_FORMS else {form}
        if any(recognize_time(value) in expected for value in stored):
            continue
        forms = Counter(
            "text" if known in _TEXT_FORMS else known for value in stored if (known := recognize_time(value))
        )
        is_wrong_type = form in _TEXT_FORMS and subjects.is_whole(table.columns[name]) and not stored
        if not (forms or is_wrong_type):
            continue
        actual = forms.most_common(1)[0][0] if forms else "epoch-s"
        counts = ", ".join(f"{count} of {form}" for form, count in forms.most_common())
        evidence = f"stored are {counts}" if forms else f"its type is {table.columns[name].type}"
        yield Contradiction(
            written.key,
            "time-format",
            f"{table.name}.{name} would get times as {form}, but {evidence}",
            f'Correct time of the profile: time = "{"sqlite-time" if actual == "text" else actual}".',
        )


def _check_due_times(subject: Subject) -> Iterator[Contradiction]:
    """Yield the times of cleanup rules that dbctl cannot read."""
    for rule in subject.app.profile.cleanup:
        if subject.app.resolve_database(rule) == subject.database:
            with suppress(SchemaMismatchError):  # another check reports it
                yield from _compare_due_times(subject, rule)


def _compare_due_times(subject: Subject, rule: Cleanup) -> Iterator[Contradiction]:
    """Compare the times of the rows that a rule covers: others of the table may have values of another kind."""
    table = subject.db.tables().get(rule.table.removesuffix("?"))
    name = find_column(table, rule.age.column) if table else None
    if table is None or name is None or table.columns[name].native == "time":
        return
    live = LiveTable(subject.app.profile, subject.db, table.name, f"the rule {rule.name}")
    variant = live.select_variant(rule.variant, lambda variant: variant.needs)
    covered = live.conditions(variant.where if variant else rule.where)
    if covered:
        rows = subject.db.sample(table.name, [name], covered, rows=SAMPLE_ROWS, timeout=SAMPLE_LIMIT) or []
    else:
        rows = subject.sample(table.name, [name])
    if reason := explain_incomparable("", [value for (value,) in rows], is_time=True):
        names = [other.name for other in subject.app.profile.cleanup]
        key = ("cleanup", names.index(rule.name), "age", "column")
        remedy = "Delete the rule, or describe its rows by a column with times."
        yield Contradiction(key, "time-format", f"{table.name}.{name} {reason}", remedy)


def _list_times(fact: Fact, subject: Subject) -> Iterator[_Column]:
    """Yield the columns of a fact in which commands write the current time."""
    profile, (name, written) = subject.app.core, _WRITTEN_TIMES[fact]
    sections: list[tuple[tuple[str | int, ...], Any]] = []
    if name == "settings":
        sections += [(("settings", index), section) for index, section in enumerate(profile.settings)]
        sections = [entry for entry in sections if subject.app.resolve_database(entry[1]) == subject.database]
    elif name == "audit" or (name and subject.has_users):
        sections = [((name,), getattr(profile, name))]
    elif profile.users and subject.has_users:
        yield from _list_end_times(profile.users)
    for key, section in sections:
        for field in written if section else ():
            if field in section.fields:
                yield _Column((*key, "fields", field), section.table, section.fields[field])


def _list_end_times(users: Users) -> Iterator[_Column]:
    for index, section in enumerate(users.signed_in):
        for column, constant in section.on_end.items():
            if constant == ":now":
                yield _Column(("users", "signed_in", index, "on_end", column), section.table, column)


def _check_active(subject: Subject) -> Iterator[Contradiction]:
    """Yield the field ``active`` if no value is a boolean of the profile: all users would seem inactive."""
    users = require(subject.app.core.users if subject.has_users else None)
    table, codec = subject.db.tables().get(users.table), subject.app.core.boolean
    name = find_column(table, users.fields.get("active"))
    if users.active or table is None or name is None or table.columns[name].native == "boolean":
        return
    sample = (value for (value,) in subject.sample(table.name, [name]))
    stored = {str(value).lower() for value in sample if not isinstance(value, bool | bytes)}
    pairs = {name: {str(value) for value in pair} for name, pair in BOOLEANS.items()}
    if not stored or stored & pairs[codec]:
        return
    other = next((other for other, pair in pairs.items() if stored <= pair), "")
    yield Contradiction(
        _BOOLEAN_KEY if other else ("users", "fields", "active"),
        "boolean-format",
        f"{table.name}.{name} would get booleans as {codec}, but has other values{_show(sorted(stored))}",
        f'Write boolean = "{other}".'
        if other
        else "Map the field active to a column of booleans, or to none.",
    )


def _check_known_states(subject: Subject) -> Iterator[Contradiction]:
    """Yield the field ``active`` if no value is that of an active or an inactive user: the last admin would not be known."""
    users = require(subject.app.core.users if subject.has_users else None)
    active = users.active
    if active is None:
        yield from (entry for entry in _check_active(subject) if entry.key != _BOOLEAN_KEY)
        return
    table = subject.db.tables().get(users.table)
    name = find_column(table, users.fields.get("active"))
    known = {str(value).lower() for value in [*active.values, active.inactive] if value is not None}
    if table is None or name is None or any(text.startswith(":") for text in known):
        return
    stored = {str(value).lower() for (value,) in subject.sample(table.name, [name])}
    if stored and not stored & (known | (_NUMBERS if known & {"true", "false"} else set())):
        yield Contradiction(
            ("users", "active"),
            "boolean-format",
            f"no value of {table.name}.{name} is that of an active user{_show(sorted(stored))}",
            "Correct values and inactive.",
        )


# Required columns -----------------------------------------------------------------------------------------------------


def _check_audit(subject: Subject) -> Iterator[Contradiction]:
    audit = require(subject.app.core.audit)
    yield from _find_uncovered(subject.db, ("audit", "fields"), audit.table, [*audit.fields.values()])


def _check_permission_links(subject: Subject) -> Iterator[Contradiction]:
    roles = subject.app.core.roles
    if roles and roles.permissions and subject.has_users:
        link = roles.permissions.link
        columns: list[ColumnNames] = [link.role, link.permission]
        yield from _find_uncovered(subject.db, ("roles", "permissions", "link"), link.table, columns)


def _find_uncovered_rows(subject: Subject) -> Iterator[Contradiction]:
    """Yield the required columns of roles and settings: without a value, commands change rows, but add none."""
    app, db, roles = subject.app, subject.db, subject.app.core.roles
    if roles and subject.has_users:
        columns = [roles.key, *roles.fields.values()]
        yield from _find_uncovered(db, ("roles", "fields"), roles.table, columns, "warning")
    for index, settings in enumerate(app.core.settings):
        if app.resolve_database(settings) == subject.database and _adds_rows(settings, db):
            columns = _list_setting_columns(settings)
            yield from _find_uncovered(db, ("settings", index, "fields"), settings.table, columns, "warning")


def _adds_rows(settings: Settings, db: Readable) -> bool:
    """Return whether commands may add a row of settings; not without the columns of a variant, which other checks report."""
    if settings.row or settings.object:
        return False
    table = db.tables().get(settings.table.removesuffix("?"))
    if settings.variant and not any(find_column(table, variant.type) for variant in settings.variant):
        return False
    return settings.scope == "user" or settings.open or any(variant.standard for variant in settings.variant)


def _list_setting_columns(settings: Settings) -> list[ColumnNames]:
    columns: list[ColumnNames] = [settings.user, *settings.fields.values()]
    for key in [settings.key, *(variant.key for variant in settings.variant)]:
        columns += list_names(key)
    return columns + [variant.type for variant in settings.variant]


def _find_uncovered(
    db: Readable,
    key: Sequence[str | int],
    table_name: str,
    columns: Sequence[ColumnNames],
    severity: Severity = "error",
) -> Iterator[Contradiction]:
    table = db.tables().get(table_name.removesuffix("?"))
    if table is None:
        return
    for column in list_uncovered(table, [find_column(table, name) for name in columns]):
        yield Contradiction(
            key,
            "column-uncovered",
            f"{table.name}.{column} requires a value, but the profile has none",
            "Map the column: without a value, dbctl adds no rows to the table.",
            severity,
        )


# Ledger ---------------------------------------------------------------------------------------------------------------


def _check_ledger(subject: Subject) -> Iterator[Contradiction]:
    """Yield a ledger whose rows the profile cannot distinguish: several rows would be one migration."""
    from dbctl.services.app import ledger_detection

    app, database, db = subject.app, subject.database, subject.db
    section = require(app.database(database).migrations)
    if section.ledger == ledger_detection.AUTO:
        ledger: Ledger = ledger_detection.detect_ledgers(
            db, app.url(database).engine, section.format, own=section.foreign
        )[0]
    else:
        ledger = ledger_detection.resolve_ledger(app.profile, section.ledger, section.format)
    table = db.tables().get(ledger.table)
    identity = find_column(table, ledger.version) or find_column(table, ledger.name)
    if table is None or identity is None:
        return
    ignored = find_column(table, ledger.rolled_back_at)
    columns = [identity, *([ignored] if ignored else [])]
    sample = db.sample(table.name, columns, rows=LEDGER_ROWS, timeout=SAMPLE_LIMIT) or []
    counts = Counter(str(row[0]) for row in sample if len(row) == 1 or row[1] is None)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        yield Contradiction(
            ("databases", database, "migrations", "ledger"),
            "ledger-merged",
            f"{sum(counts.values())} rows of {table.name} would be {len(counts)} migrations{_show(repeated)}",
            'A migration needs a column, or a name, that no other row has; a foreign ledger is detected with ledger = "auto".',
        )


# The checks -----------------------------------------------------------------------------------------------------------

USER_KEY = Check("key-format", partial(_check_keys, "users"), fact="user-key")
ACTIVE = Check("boolean-format", _check_active, fact="active")
ACTIVE_KNOWN = Check("boolean-format", _check_known_states, fact="active-known")
ROLE_KEY = Check("key-format", partial(_check_keys, "roles"), fact="role-key")
PERMISSION_LINK = Check("column-uncovered", _check_permission_links, fact="permission-link")
_TIMES = [Check("time-format", partial(_check_times, fact), fact=fact) for fact in _WRITTEN_TIMES]
AUDIT = Check("column-uncovered", _check_audit, fact="audit")
LEDGER = Check("ledger-merged", _check_ledger, fact="ledger")
#: In this order, a command that writes reports the first contradiction.
FACT_CHECKS = (USER_KEY, ACTIVE, ACTIVE_KNOWN, ROLE_KEY, PERMISSION_LINK, *_TIMES, AUDIT, LEDGER)
#: Without a fact: cleanup compares the rules that it runs.
DUE_TIMES = Check("time-format", _check_due_times)
#: Without a fact: a command that adds such a row is refused by the database.
UNCOVERED = Check("column-uncovered", _find_uncovered_rows)

"""Draft the root of a profile, the section of its database, and what happens to the rows of a user who is deleted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from dbctl.engines.contract.database import Readable
from dbctl.engines.sql.catalog import ident
from dbctl.extensions.drafts import usual_names
from dbctl.extensions.drafts.document import Decision, Draft, Entry, Line, Part, join_names, write_header
from dbctl.extensions.drafts.new_users import contains_all, find_named_rows, find_value_references
from dbctl.model import format_count
from dbctl.profiles.codecs import TIMES, BooleanCodec
from dbctl.profiles.payloads import has_row_path
from dbctl.services.app import ledger_detection
from dbctl.services.app.evidence import references, subjects
from dbctl.services.app.evidence.gather import Evidence, TableEvidence
from dbctl.services.app.evidence.references import (
    BlockingReference,
    UserReference,
    find_blocking_references,
    find_user_references,
)
from dbctl.services.app.secrets import has_secret_name

#: The database of a drafted profile.
MAIN = "main"
#: Tables that identify the database.
MOST_NEEDS = 3
#: Tables whose columns named like secrets are none.
_NO_SECRETS = ("migration", "content_type")


def draft_database(
    evidence: Evidence,
    db: Readable,
    *,
    name: str,
    file: Path | None,
    users: TableEvidence | None,
    covered: Collection[str],
    tokens: Collection[str],
) -> Draft:
    """Return the first sections of a profile; ``file`` is that of SQLite, ``covered`` are secret columns (``table.column``) of other sections, ``tokens`` further ones."""
    decisions = list[Decision]()
    root: list[Line | str] = [
        Line("schema", "dbctl.profile/1"),
        Line("name", name),
        Line("title", name),
        *_describe_times(evidence, users, decisions),
        *_describe_booleans(evidence),
        *([Line("home", [str(file.parent)], "init finds the database there")] if file else []),
    ]
    lines: list[Line | str] = [Line("engines", [evidence.engine])]
    lines += [Line("find", [file.name])] if file else []
    if needs := _choose_needs(evidence, users):
        lines.append(Line("needs", needs, "tables that identify the database"))
    updated = Counter(
        column
        for table in evidence.base_tables()
        for column in usual_names.find_names(table, usual_names.FIELDS["updated_at"])[:1]
        if subjects.is_time(table.columns[column], table.values(column))
    ).most_common(1)
    if updated and updated[0][1] > 1:
        lines.append(Line("updated_at", updated[0][0], f"in {updated[0][1]} tables"))
    if not any(table.references for table in evidence.base_tables()):
        lines.append("No table has a foreign key.")
    if secret := _list_secrets(evidence, covered, tokens):
        lines.append(Line("secret", secret, "the names of the columns"))
    lines.append(Line("guess_secrets", True, "also by the names and values of new columns"))  # noqa: FBT003 - the value itself
    parts = [
        Part(lines=root),
        Part(header=write_header("databases", MAIN), lines=lines),
        *_describe_ledger(evidence, db, decisions),
    ]
    return Draft(parts=parts, decisions=decisions, secrets=[str(entry.value) for entry in secret])


def _describe_times(
    evidence: Evidence, users: TableEvidence | None, decisions: list[Decision]
) -> list[Line | str]:
    """Return the line about the format of times in columns without a type for times: that of users, or of most columns."""
    forms, forms_of_users = Counter[str](), Counter[str]()
    for table in evidence.base_tables():
        for column in table.columns.values():
            is_named = (
                usual_names.TIME_NAME.search(references.normalize(column.name)) or "TIME" in column.type
            )
            if is_named and column.native != "time":
                forms += (stored := subjects.count_time_forms(table.values(column.name)))
                forms_of_users += stored if table is users else {}
    if not forms:
        return []
    counts = ", ".join(f"{count} {form}" for form, count in forms.most_common())
    written = forms_of_users or forms
    form = next((form for form, _ in written.most_common() if form in TIMES), None)
    if form is None or sum(written[other] for other in written.keys() - TIMES.keys()) > written[form]:
        decisions.append(
            Decision("format", "the format of times: most have one that dbctl reads, but does not write")
        )
    reason = "; none has this form" if form is None else "; users have this" if forms_of_users else ""
    return [Line("time", form or "sqlite-time", f"without a type for times: {counts}{reason}")]


def _describe_booleans(evidence: Evidence) -> list[Line | str]:
    forms, columns = Counter[BooleanCodec](), 0
    for table in evidence.base_tables():
        for column in table.columns.values():
            stored = table.values(column.name)
            if column.native != "boolean" and stored and subjects.is_boolean(column, stored):
                forms += subjects.boolean_form(stored)
                columns += 1
    if not forms:
        return []
    counts = ", ".join(f"{count} {form}" for form, count in forms.most_common())
    return [Line("boolean", forms.most_common(1)[0][0], f"{counts}, in {format_count(columns, 'column')}")]


def _choose_needs(evidence: Evidence, users: TableEvidence | None) -> list[str]:
    """Return the users and the tables to which most others refer."""
    incoming = Counter(reference.table for table in evidence.base_tables() for reference in table.references)
    usual = [
        name
        for name, _ in incoming.most_common()
        if name in evidence.tables and not evidence.tables[name].is_view
    ]
    ranked = [*([users.name] if users else []), *usual, *(table.name for table in evidence.base_tables())]
    return list(dict.fromkeys(ranked))[:MOST_NEEDS]


def _list_secrets(evidence: Evidence, covered: Collection[str], tokens: Collection[str]) -> list[Entry]:
    entries = []
    for table in evidence.base_tables():
        if any(word in references.normalize(table.name) for word in _NO_SECRETS):
            continue
        for column in table.columns.values():
            path = f"{table.name}.{column.name}"
            is_stored = subjects.is_text(column) or column.is_binary
            is_secret = path in tokens or has_secret_name(references.shorten(table, column.name))
            if is_stored and path not in covered and is_secret:
                entries.append(Entry(path))
    return entries


def _describe_ledger(evidence: Evidence, db: Readable, decisions: list[Decision]) -> list[Part]:
    """Return the section about migrations if the database has a ledger."""
    ledger, foreign = ledger_detection.detect_ledgers(db, evidence.engine)
    header = write_header("databases", MAIN, "migrations")
    if foreign:
        rows = len(evidence.tables[foreign.table].rows) if foreign.table in evidence.tables else 0
        text = f"the ledger of {foreign.runner}, which dbctl reads and does not write" + (
            f"; {format_count(rows, 'sampled row')}" if rows else ""
        )
        return [Part(header=header, lines=[Line("ledger", "auto", text)])]
    if ledger.table in evidence.tables:
        return [Part(header=header, lines=[Line("ledger", "auto", f"the table {ledger.table}")])]
    for table in usual_names.match_tables(evidence, usual_names.LEDGER_TABLE)[:1]:
        if part := _describe_own_ledger(table, header):
            return [part]
        text = f"{table.name} may be a ledger of migrations; dbctl has no description of it"
        decisions.append(Decision("other", text))
        remark = f"{table.name} ({', '.join(table.columns)}) may record migrations, of a runner that dbctl does not support."
        return [Part(lines=[remark])]
    return [part for table in evidence.base_tables() if (part := _describe_version_row(table, header))][:1]


def _describe_own_ledger(table: TableEvidence, header: str) -> Part | None:
    """Return the section about a table that records migrations in a usual form, which dbctl only reads."""
    version, name, time = (
        usual_names.find_name(table, words)
        for words in (usual_names.LEDGER_VERSION, usual_names.LEDGER_NAME, usual_names.LEDGER_TIME)
    )
    app = usual_names.find_name(table, ["app"])
    if not (version or name):
        return None
    if app:
        version, name = "", f"{ident(app)} || '/' || {ident(name or version)}"
    elif version and not name and not subjects.is_whole(table.columns[version]):
        version, name = "", ident(version)  # an identifier without an order, as those of Alembic
    else:
        version, name = ident(version) if version else "", ident(name) if name else ""
    # One row with a number is the version of the schema.
    state = "applied" if version and not name and len(table.rows) == 1 else ""
    columns = [version or "null", name or "null", ident(time) if time else "null"]
    select = f"select {', '.join(columns)}, 0, '{state}', null from {ident(table.name)}"
    return _write_ledger(table, header, select)


def _describe_version_row(table: TableEvidence, header: str) -> Part | None:
    """Return the section about the row of a table of settings that has the version of the schema."""
    if not usual_names.SETTINGS_TABLE.search(references.normalize(table.name)):
        return None
    value = usual_names.find_name(table, usual_names.SETTING_VALUE)
    for key in usual_names.find_names(table, usual_names.SETTING_KEY):
        for row in table.rows:
            if value and usual_names.is_version_key(str(row.get(key))) and str(row.get(value)).isdecimal():
                where = f"{ident(key)} = '{str(row[key]).replace(chr(39), chr(39) * 2)}'"
                select = f"select {ident(value)}, null, null, 0, 'applied', null from {ident(table.name)} where {where}"
                return _write_ledger(table, header, select)
    return None


def _write_ledger(table: TableEvidence, header: str, select: str) -> Part:
    ledger = {
        "runner": f"the app ({table.name})",
        "table": table.name,
        "columns": list(table.columns),
        "select": select,
    }
    lines = [Line("ledger", "auto"), Line("foreign", ledger, "by its name and columns; dbctl only reads it")]
    return Part(header=header, lines=lines)


_REASONS = {"blocked": "a foreign key would prevent the deletion", "unhandled": "by its name; no foreign key"}


def draft_owned_rows(
    evidence: Evidence,
    db: Readable,
    users: TableEvidence,
    *,
    logins: Sequence[str],
    signed_in: Collection[str],
    described: Collection[str],
    cascade: Collection[str] = (),
    retained: Collection[str] = (),
) -> Draft:
    """Return the sections; ``logins`` are the columns of users with logins.

    The rows of the tables ``signed_in`` end with a sign-in; those of ``described`` belong to users in other sections. A profile deletes the
    rows of the paths ``cascade``, and clears or keeps those of ``retained``.
    """
    covered = {*cascade, *retained}
    owned = [
        reference
        for reference in find_user_references(evidence, users, users.key)
        if reference.path not in covered
    ]
    handled = [reference.path for reference in owned if reference.deletion == "handled"]
    others = [reference for reference in owned if reference.deletion != "handled"]
    deleted = [reference for reference in others if _is_personal(evidence, reference, signed_in)]
    transferable = [reference for reference in others if reference not in deleted]
    # A name alone does not show that an app deletes the rows.
    possible = [
        reference
        for reference in deleted
        if reference.deletion == "unhandled" and reference.table not in signed_in
    ]
    deleted = [reference for reference in deleted if reference not in possible]
    unproven = {
        reference.path
        for reference in transferable
        if reference.deletion == "unhandled" and not _has_only_users(evidence, db, users, reference)
    }
    lines: list[Line | str] = []
    if handled:
        lines.append(f"Foreign keys delete these, or set them to NULL: {join_names(handled)}")
    below = _BlockedRows(evidence, users, [*cascade, *(reference.path for reference in deleted)], covered)
    named = {
        place: paths
        for place, paths in find_named_rows(evidence, users).items()
        if not paths or not covered.issuperset(paths)
    }
    copied = [
        reference
        for reference in find_value_references(
            evidence,
            db,
            users,
            logins,
            {*signed_in, *described, *named, *covered, *(reference.path for reference in owned)},
        )
        if reference.path and reference.path not in covered
    ]
    entries = [
        *(
            Entry(path, "deletes rows with the key of the user in their name", is_candidate=True)
            for paths in named.values()
            for path in paths
        ),
        *(Entry(reference.path, reference.evidence, is_candidate=True) for reference in copied),
        *(Entry(reference.path, _REASONS["unhandled"], is_candidate=True) for reference in possible),
        *below.list_deleted(deleted),
    ]
    if entries:
        lines.append(Line("cascade", entries, "rows that are deleted before their user"))
    if below.cleared:
        cleared = [Entry(path, _REASONS["blocked"]) for path in below.cleared]
        lines.append(Line("clear", cleared, "references to deleted rows, which become NULL"))
    parts = [
        _draft_transfer(evidence, reference, is_candidate=reference.path in unproven)
        for reference in transferable
        if reference.deletion == "blocked" or not evidence.tables[reference.table].is_unique(reference.column)
    ]
    blocked = [reference.path for reference in transferable if reference.deletion == "blocked"]
    named_after = [reference for reference in transferable if reference.deletion == "unhandled"]
    left = [reference.path for reference in named_after if reference.path not in unproven]
    remaining = [reference.path for reference in possible if reference.table not in described]
    remaining += [reference.path for reference in named_after if reference.path in unproven]
    places = [f"{reference.place} ({reference.evidence})" for reference in copied]
    open_decisions = [
        (blocked, "users with rows in {} are deleted only with --transfer-to, or add them to cascade"),
        (left, "rows of {} remain without their user, unless --transfer-to is used"),
        (
            remaining,
            "only names show that rows of {} belong to users: they remain without their user, unless cascade or users.transfer has them",
        ),
        (
            below.undecided,
            "users are not deleted while rows of others refer to their rows: {}; add them to cascade",
        ),
        (places, "rows remain without their user in {}: add those that are users to cascade"),
    ]
    decisions = [
        Decision("deletion", text.format(join_names(names))) for names, text in open_decisions if names
    ]
    if named:
        text = f"names in {join_names(list(named))} contain the key of a user: the next user with this key would get their rights"
        decisions.append(Decision("rights", text))
    return Draft(lines=lines, parts=parts, decisions=decisions)


class _BlockedRows:
    """Rows that refer to rows which are deleted with their user, where a foreign key would prevent it."""

    def __init__(
        self, evidence: Evidence, users: TableEvidence, deleted: Sequence[str], covered: Collection[str]
    ) -> None:
        owners = {reference.table for reference in find_user_references(evidence, users, users.key)}
        self.cleared, self.undecided = list[str](), list[str]()
        self._deleted, self._steps = list[BlockingReference](), dict[str, int]()
        for blocking in find_blocking_references(evidence, users, users.key, deleted):
            self._steps[blocking.table] = blocking.steps  # those of the longest path, which is the last
            if blocking.path in covered:
                continue
            if not blocking.path or (blocking.is_required and blocking.table in owners):
                self.undecided.append(blocking.place)  # the rows have users of their own
            elif blocking.is_required:
                self._deleted.append(blocking)
            else:
                self.cleared.append(blocking.path)

    def list_deleted(self, direct: Sequence[UserReference]) -> list[Entry]:
        """Return the deleted rows, with ``direct``: rows that refer to others precede them."""
        reason = "a foreign key would prevent the deletion, and requires a value"
        entries = [(blocking.table, Entry(blocking.path, reason)) for blocking in self._deleted]
        entries += [
            (reference.table, Entry(reference.path, _REASONS[reference.deletion])) for reference in direct
        ]
        return [entry for table, entry in sorted(entries, key=lambda entry: -self._steps.get(entry[0], 0))]


def _is_personal(evidence: Evidence, reference: UserReference, signed_in: Collection[str]) -> bool:
    table = evidence.tables[reference.table]
    column = table.columns[reference.column]
    # One row for each user; without a foreign key, rows of others may depend on it.
    is_own_key = table.is_unique(reference.column) and reference.deletion == "blocked"
    is_personal = is_own_key or bool(usual_names.PERSONAL_ROWS.search(references.normalize(reference.table)))
    if not has_row_path(reference.table, reference.column):
        return False
    return reference.table in signed_in or (
        is_personal and (not column.nullable or reference.deletion == "unhandled")
    )


def _has_only_users(evidence: Evidence, db: Readable, users: TableEvidence, reference: UserReference) -> bool:
    """Return whether all sampled values of a column are keys of users."""
    stored = evidence.tables[reference.table].values(reference.column)
    return bool(stored) and contains_all(db, users, users.key, stored)


def _draft_transfer(evidence: Evidence, reference: UserReference, *, is_candidate: bool) -> Part:
    table = evidence.tables[reference.table]
    lines = [Line("table", reference.table, _REASONS[reference.deletion]), Line("column", reference.column)]
    once = [list(key) for key in table.keys if reference.column in key and len(key) > 1]
    if once:
        lines.append(Line("once", [name for name in once[0] if name != reference.column], "a unique index"))
    remarks = ["If these rows belong to users:"] if is_candidate else []
    return Part(
        header="users.transfer", is_array=True, lines=lines, remarks=remarks, is_candidate=is_candidate
    )

"""Draft searches, reports and settings, and find the rows of a table of users that are none."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from msgspec import structs

from dbctl.engines.sql.catalog import ident
from dbctl.extensions.drafts import usual_names
from dbctl.extensions.drafts.databases import MAIN
from dbctl.extensions.drafts.document import Decision, Draft, Line, Part, Value, join_names
from dbctl.model import Row, format_count
from dbctl.services.app.evidence import references, subjects
from dbctl.services.app.evidence.gather import Evidence, TableEvidence
from dbctl.services.app.secrets import has_secret_name

#: The most searches and columns of a search.
MOST_SEARCHES, MOST_WORDS, MOST_SHOWN = 4, 4, 6
#: Columns that may have the state of a row.
STATES = ("status", "state", "visibility")
_RESERVED = ("index", "all", "semantic", "vectors")


def draft_searches(evidence: Evidence, excluded: Collection[str]) -> Iterator[Part]:
    """Yield a search for each of the tables with the most texts."""
    rated = [
        (_rate(evidence, table), table) for table in evidence.base_tables() if table.name not in excluded
    ]
    ranked = sorted(rated, key=lambda entry: (-entry[0], entry[1].name))
    for points, table in ranked[:MOST_SEARCHES]:
        if points > 0:
            yield _draft_search(table)


def _rate(evidence: Evidence, table: TableEvidence) -> int:
    """Return points for texts and rows; 0: the table has no texts for readers."""
    titles = usual_names.find_names(table, usual_names.TITLE)
    bodies = usual_names.find_names(table, usual_names.BODY)
    name = references.normalize(table.name)
    if not (titles and table.key and table.rows) or any(
        map(subjects.is_whole, (table.columns[title] for title in titles[:1]))
    ):
        return 0
    others = (
        usual_names.SETTINGS_TABLE,
        usual_names.ROLES_TABLE,
        usual_names.PERMISSIONS_TABLE,
        usual_names.SESSIONS_TABLE,
    )
    if any(pattern.search(name) for pattern in others) or "migration" in name:
        return 0
    if name.endswith(("_log", "_logs", "_cache")):
        return 0
    referring = sum(
        any(reference.table == table.name for reference in other.references)
        for other in evidence.base_tables()
    )
    return (
        3 * ("title" in map(references.normalize, titles))
        + 2 * bool(bodies)
        + min(referring, 5)
        + min(len(table.rows), 5)
    )


def _draft_search(table: TableEvidence) -> Part:
    texts = [
        column
        for column in [
            *usual_names.find_names(table, usual_names.TITLE),
            *usual_names.find_names(table, usual_names.BODY),
        ]
        if subjects.is_text(table.columns[column])
        or not table.values(column)
        or isinstance(table.values(column)[0], str)
    ]
    words = list(dict.fromkeys(texts))[:MOST_WORDS] or usual_names.find_names(table, usual_names.TITLE)[:1]
    times = [
        column.name
        for column in table.columns.values()
        if subjects.is_time(column, table.values(column.name))
        and usual_names.TIME_NAME.search(references.normalize(column.name))
    ]
    shown = list(dict.fromkeys([table.key, *words, *times]))[:MOST_SHOWN]
    name = references.normalize(table.name).replace("_", "-") or "rows"
    lines = [
        Line("name", f"{name}-rows" if name in _RESERVED else name),
        Line("database", MAIN),
        Line("table", table.name),
        Line("id", table.key),
        Line("words", words, "columns with texts"),
        Line("show", shown),
        Line("sort", [{"name": words[0], "columns": [words[0]]}]),
    ]
    if times := [column for column in times if column in shown]:
        lines.append(Line("times", times))
    return Part(header="search", is_array=True, remarks=[f"Search of {table.name}"], lines=lines)


def draft_reports(
    evidence: Evidence, users: TableEvidence | None, fields: Mapping[str, str]
) -> Iterator[Part]:
    """Yield reports: the newest users, and the rows of each state."""
    if users and "created_at" in fields:
        login = next((field for field in ("username", "email", "name", "id") if field in fields), "")
        columns = [fields[field] for field in (login, "created_at") if field]
        yield _draft_report(
            "newest-users",
            "Newest users",
            users,
            columns,
            f"select {_join(columns)} from {ident(users.name)} order by {ident(fields['created_at'])} desc limit :limit offset :offset",
            times=[fields["created_at"]],
        )
    for table in evidence.base_tables():
        state = usual_names.find_name(table, STATES)
        distinct = {str(value) for value in table.values(state)} if state else set()
        if table.rows and 1 < len(distinct) <= 8 and table is not users:  # noqa: PLR2004 - more values are no states
            column, name = ident(state), ident(table.name)
            yield _draft_report(
                f"{references.normalize(table.name).replace('_', '-')}-by-{references.normalize(state).replace('_', '-')}",
                f"Rows of {table.name} by {state}",
                table,
                [state],
                f"select {column}, count(*) from {name} group by {column} order by 2 desc limit :limit offset :offset",
                further=["rows"],
            )


def _draft_report(
    name: str,
    title: str,
    table: TableEvidence,
    columns: Sequence[str],
    sql: str,
    *,
    times: Sequence[str] = (),
    further: Sequence[str] = (),
) -> Part:
    needs = [f"{table.name}.{column}" for column in columns]
    lines = [Line("name", name), Line("title", title), Line("columns", [*columns, *further])]
    lines += [Line("times", list(times))] if times else []
    lines.append(Line("variant", [{"needs": needs, "sql": sql}]))
    return Part(header="report", is_array=True, lines=lines)


def _join(columns: Sequence[str]) -> str:
    return ", ".join(map(ident, columns))


#: The kind of a setting for the usual names of types.
KINDS: Mapping[str, str] = {
    "bool": "boolean", "boolean": "boolean", "switch": "boolean", "int": "integer", "integer": "integer", "float": "float",
    "double": "float", "decimal": "float", "number": "number", "numeric": "number", "string": "string", "str": "string",
    "text": "string", "json": "json", "object": "json", "array": "json", "list": "json",
}  # fmt: skip
#: By stored form, patterns of which the first matches all values, and the second at least one.
FORMS: Mapping[str, tuple[str, str]] = {
    "json": (r"[{\[\"].*[}\]\"]$|(true|false|null|-?\d+(\.\d+)?)$", r"[{\[\"]"),
    "yaml": (r"---", r"---"),
    "php": (r"", r"a:\d+:\{"),
}
#: The most different values of a column of types.
MOST_TYPES = 12


def draft_settings(evidence: Evidence, users: TableEvidence | None) -> Iterator[Part]:
    """Yield a section for each table of settings; the app has at most one table of each scope."""
    scopes = set[str]()
    tables = usual_names.match_tables(evidence, usual_names.SETTINGS_TABLE)
    for table in sorted(tables, key=lambda table: (not table.rows, len(table.name))):
        part = _draft_table(table, users, scopes)
        if part:
            yield part


def _draft_table(table: TableEvidence, users: TableEvidence | None, scopes: set[str]) -> Part | None:
    columns = find_setting_columns(table)
    if columns is None:
        return None
    key, value = columns
    user, *_ = (
        *references.match_columns(table, references.USER_REFERENCE),
        *references.match_columns(table, references.USER_WORD),
        "",
    )
    scope = "user" if user else "system"
    is_unique = any({key, *([user] if user else [])} == set(columns) for columns in table.keys)
    lines: list[Line | str] = [
        Line("scope", scope, f"the column {user}" if user else ""),
        Line("table", table.name, format_count(len(table.rows), "sampled row")),
    ]
    lines += [Line("user", user)] if user else []
    lines.append(Line("fields", {"value": value} | _map_fields(table)))
    kind = _find_types(table)
    types = _describe_types(table, kind) if kind else {}
    if not types:
        lines.append(Line("key", key, "a unique index" if is_unique else "the name of the column"))
    stored = _find_form(table.values(value))
    if stored and not types:
        lines.append(Line("stored", stored, "the form of the values"))
    booleans = _find_booleans(table, value, kind)
    if booleans:
        lines += [Line("true", booleans[1], "stored values"), Line("false", booleans[0])]
    if excluded := sorted({name for name in map(str, table.values(key)) if usual_names.is_version_key(name)}):
        lines.append(Line("excluded", excluded, "by its name, what records migrations"))
    if secret := _list_secret_keys(table, key):
        lines.append(Line("secret", secret, "the names of the keys"))
    is_candidate = not is_unique or scope in scopes or (bool(user) and users is None)
    remarks = ["Settings"]
    if is_candidate:
        remarks = [
            f"{table.name}: no unique index covers the key of a setting, or another table has the settings"
        ]
    else:
        scopes.add(scope)
    if types:
        lines.append(Line("variant", [{"key": key, "type": kind, "types": types}], "the stored types"))
    return Part(header="settings", is_array=True, remarks=remarks, lines=lines, is_candidate=is_candidate)


def find_setting_columns(table: TableEvidence) -> tuple[str, str] | None:
    """Return the columns with the key and with the value of a setting; None: the table lacks one."""
    value = usual_names.find_name(table, usual_names.SETTING_VALUE)
    for key in usual_names.find_names(table, usual_names.SETTING_KEY) if value else ():
        if key != value and subjects.is_text(table.columns[key]):
            return key, value
    return None


def _map_fields(table: TableEvidence) -> dict[str, Value]:
    candidates = {
        "description": ["description"],
        "public": ["is_public", "public"],
        "updated_at": usual_names.FIELDS["updated_at"],
    }
    return {
        field: column
        for field, words in candidates.items()
        if (column := usual_names.find_name(table, words))
    }


def _find_types(table: TableEvidence) -> str:
    """Return the column with the types of settings; empty if its values are other than types."""
    for column in usual_names.find_names(table, usual_names.SETTING_TYPE):
        stored = {str(value) for value in table.values(column)}
        if (
            stored
            and len(stored) <= MOST_TYPES
            and sum(value.lower() in KINDS for value in stored) * 2 > len(stored)
        ):
            return column
    return ""


def _describe_types(table: TableEvidence, column: str) -> dict[str, Value]:
    stored = Counter(str(value) for value in table.values(column))
    return {name: KINDS.get(name.lower(), "string") for name, _ in stored.most_common()}


def _find_form(stored: Sequence[object]) -> str:
    """Return how values without a column of types are stored; empty: as text."""
    texts = [str(value) for value in stored if value != ""]
    return next((form for form, (every, some) in FORMS.items() if _have_form(texts, every, some)), "")


def _have_form(texts: Sequence[str], every: str, some: str) -> bool:
    return all(re.match(every, text, re.DOTALL) for text in texts) and any(
        re.match(some, text) for text in texts
    )


def _find_booleans(table: TableEvidence, value: str, kind: str) -> Sequence[str]:
    """Return the stored texts of false and true of boolean settings, if they are not ``false`` and ``true``."""
    if not kind:
        return ()
    rows = [row for row in table.rows if KINDS.get(str(row.get(kind)).lower()) == "boolean"]
    stored = {str(row.get(value)) for row in rows if row.get(value) is not None}
    for pair in (("0", "1"), ("no", "yes"), ("off", "on"), ("f", "t")):
        if stored and stored <= set(pair):
            return pair
    return ()


def _list_secret_keys(table: TableEvidence, key: str) -> list[str]:
    return sorted(
        {
            name
            for name in map(str, table.values(key))
            if has_secret_name(name.replace("-", "_").replace(".", "_")) and not set("*?[") & set(name)
        }
    )


#: Beginnings of values that are no password.
_NO_PASSWORD = ("!", "*")


class OtherRowsDraft(Draft, frozen=True, kw_only=True):
    """The users of a table, and the lines about its other rows."""

    table: TableEvidence  #: the table, with the sampled rows that are users


def separate_users(table: TableEvidence, passwords: Sequence[str]) -> OtherRowsDraft:
    """Return the rows that are users; ``passwords`` are the columns that together are the hash of a password.

    A kind of rows without any login and password is no kind of users. Rows without a password alone may be users who sign in
    elsewhere, so their kind, or their name, is a candidate.
    """
    logins = usual_names.find_names(table, usual_names.LOGINS)
    for column in references.match_columns(table, usual_names.KIND) if passwords and logins else ():
        kinds = {str(row[column]) for row in table.rows if isinstance(row.get(column), str)}
        able = [row for row in table.rows if _has_password(row, passwords)]
        users = sorted({str(row[column]) for row in able if isinstance(row.get(column), str)})
        others = sorted(kinds - set(users))
        if not users or not others or any(row.get(column) is None for row in able):
            continue
        is_shown = not any(
            row.get(login) for row in table.rows if row.get(column) in others for login in logins
        )
        only: Value = {column: users if len(users) > 1 else users[0]}
        evidence = f"rows with {join_names(others)} have no password{' and no login' if is_shown else ''}"
        text = (
            f"the rows of {table.name} that are users: those with {column} = {join_names(users)}; {evidence}"
        )
        decision = Decision("users", text)
        line = Line("only", only, evidence, is_candidate=not is_shown)
        if not is_shown:
            return OtherRowsDraft(table=table, lines=[line], decisions=[decision])
        rows = [row for row in table.rows if row.get(column) in users]
        own = structs.replace(table, rows=rows)
        return OtherRowsDraft(table=own, columns=[column], lines=[line], decisions=[decision])
    return _find_system_accounts(table, passwords, logins)


def _find_system_accounts(
    table: TableEvidence, passwords: Sequence[str], logins: Sequence[str]
) -> OtherRowsDraft:
    """Return the accounts without a password whose login is usual for those of an app itself, as candidates."""
    for login in logins:
        likely = [
            str(row[login])
            for row in table.rows
            if usual_names.SYSTEM_LOGIN.search(str(row.get(login) or ""))
            and not _has_password(row, passwords)
        ]
        if likely and passwords and len(likely) < len(table.rows):
            evidence = "by the name; no password"
            line = Line("excluded", {login: likely}, evidence, is_candidate=True)
            text = f"{join_names(likely)} in {table.name} may be accounts of the app itself, as they have no password: add them to users.excluded"
            return OtherRowsDraft(table=table, lines=[line], decisions=[Decision("users", text)])
    return OtherRowsDraft(table=table)


def _has_password(row: Row, passwords: Sequence[str]) -> bool:
    stored = row.get(passwords[-1]) if passwords else None
    return bool(stored) and not (isinstance(stored, str) and stored.startswith(_NO_PASSWORD))

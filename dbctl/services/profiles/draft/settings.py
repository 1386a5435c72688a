"""Draft the settings of the app and of its users."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from dbctl.model import format_count
from dbctl.services.app.evidence import references, subjects
from dbctl.services.app.evidence.gather import Evidence, TableEvidence
from dbctl.services.app.secrets import has_secret_name
from dbctl.services.profiles.draft.document import Line, Part, Value

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
    tables = [
        table
        for table in evidence.base_tables()
        if references.SETTINGS_TABLE.search(references.normalize(table.name))
    ]
    for table in sorted(tables, key=lambda table: (not table.rows, len(table.name))):
        part = _draft_table(table, users, scopes)
        if part:
            yield part


def _draft_table(table: TableEvidence, users: TableEvidence | None, scopes: set[str]) -> Part | None:
    value = next(iter(references.find_names(table, references.SETTING_VALUE)), "")
    keys = [column for column in references.find_names(table, references.SETTING_KEY) if column != value]
    keys = [column for column in keys if subjects.is_text(table.columns[column])]
    if not (value and keys):
        return None
    user = next(
        iter(
            [
                *references.match_columns(table, references.USER_REFERENCE),
                *references.match_columns(table, references.USER_WORD),
            ]
        ),
        "",
    )
    scope = "user" if user else "system"
    is_unique = any({keys[0], *([user] if user else [])} == set(key) for key in table.keys)
    lines: list[Line | str] = [
        Line("scope", scope, f"the column {user}" if user else ""),
        Line("table", table.name, format_count(len(table.rows), "sampled row")),
    ]
    lines += [Line("user", user)] if user else []
    lines.append(Line("fields", {"value": value} | _map_fields(table)))
    kind = _find_types(table)
    types = _describe_types(table, kind) if kind else {}
    if not types:
        lines.append(Line("key", keys[0], "a unique index" if is_unique else "the name of the column"))
    stored = _find_form(table.values(value))
    if stored and not types:
        lines.append(Line("stored", stored, "the form of the values"))
    booleans = _find_booleans(table, value, kind)
    if booleans:
        lines += [Line("true", booleans[1], "stored values"), Line("false", booleans[0])]
    if excluded := sorted({key for key in map(str, table.values(keys[0])) if references.is_version_key(key)}):
        lines.append(Line("excluded", excluded, "by its name, what records migrations"))
    if secret := _list_secret_keys(table, keys[0]):
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
        lines.append(Line("variant", [{"key": keys[0], "type": kind, "types": types}], "the stored types"))
    return Part(header="settings", is_array=True, remarks=remarks, lines=lines, is_candidate=is_candidate)


def _map_fields(table: TableEvidence) -> dict[str, Value]:
    candidates = {
        "description": ["description"],
        "public": ["is_public", "public"],
        "updated_at": references.FIELDS["updated_at"],
    }
    return {
        field: columns[0]
        for field, words in candidates.items()
        if (columns := references.find_names(table, words))
    }


def _find_types(table: TableEvidence) -> str:
    """Return the column with the types of settings; empty if its values are other than types."""
    for column in references.find_names(table, references.SETTING_TYPE):
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

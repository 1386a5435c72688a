"""Find columns that refer to users only by their values: logins, keys, and names that contain a key."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import timedelta

from dbctl.engines.contract.database import Column, Condition, Readable
from dbctl.errors.connection import BusyError, PrivilegeMissingError, QueryFailedError
from dbctl.model import Struct
from dbctl.profiles.row_paths import KEY_IN_TEXT, has_row_path
from dbctl.services.app.evidence import references, subjects
from dbctl.services.app.evidence.gather import Evidence, TableEvidence
from dbctl.services.app.secrets import has_secret_name

#: Different values from which on it is no chance that all are logins or keys, unless they are addresses or the column is named after users.
LEAST_VALUES = 2
QUERY_LIMIT = timedelta(seconds=1)


class ValueReference(Struct, frozen=True, kw_only=True):
    """A column whose values are those of users."""

    table: str
    column: str
    path: str  #: as in ``users.cascade``; empty: a profile cannot express it
    evidence: str

    @property
    def place(self) -> str:
        return f"{self.table}.{self.column}"


def find_value_references(
    evidence: Evidence,
    db: Readable,
    users: TableEvidence,
    logins: Sequence[str],
    described: Collection[str],
) -> Iterator[ValueReference]:
    """Yield the columns without a foreign key whose values all are logins, or keys, of users.

    Args:
        evidence: the evidence.
        db: the database.
        users: the table of users.
        logins: the columns of users with logins.
        described: the columns (``table.column``), or tables, that the draft describes.
    """
    sources = [*(column for column in logins if column != users.key), users.key]
    for table in evidence.base_tables():
        if table.name == users.name or table.name in described:
            continue
        in_keys = {name for reference in table.references for name in reference.columns}
        for column in table.columns.values():
            is_other = column.name in in_keys or f"{table.name}.{column.name}" in described
            stored = table.values(column.name)
            if is_other or not stored or column.is_generated or has_secret_name(column.name):
                continue
            for source in sources:
                if _fits(
                    evidence, table, column, users.columns[source], is_key=source == users.key
                ) and contains_all(db, users, source, stored):
                    kind = "keys" if source == users.key else "logins"
                    yield ValueReference(
                        table=table.name,
                        column=column.name,
                        path=_write_path(users, table.name, column.name, source),
                        evidence=f"{len(stored)} of {len(stored)} sampled values are {kind} of users ({source})",
                    )
                    break


def _fits(evidence: Evidence, table: TableEvidence, column: Column, source: Column, *, is_key: bool) -> bool:
    """Return whether equal values are no chance."""
    stored = {str(value) for value in table.values(column.name)} - {""}
    words = [
        word
        for word in references.normalize(column.name).split("_")
        if word not in ("id", "key", "uuid", "name")
    ]
    word = words[-1] if words else ""
    is_named = word in references.USER_WORDS and not any(
        references.list_words(other.name)[-1] == word for other in evidence.base_tables()
    )
    if subjects.is_whole(source):
        return is_key and is_named and subjects.is_whole(column) and not stored <= {"0", "1"}
    if column.native != source.native or subjects.is_whole(column) or not stored:
        return False
    return is_named or len(stored) >= LEAST_VALUES or all("@" in value for value in stored)


def contains_all(db: Readable, users: TableEvidence, source: str, stored: Sequence[object]) -> bool:
    """Return whether all values are those of users; values that are not among the sampled users are looked up."""
    known = set(map(str, users.values(source)))
    missing = sorted({str(value) for value in stored if value != ""} - known)
    if not missing:
        return True
    if len(users.rows) < 2 * len(missing) or users.columns[source].native or not users.is_unique(source):
        return False
    try:
        where = [Condition(source, "in", missing)]
        return db.count(users.name, where) == len(missing)
    except (BusyError, PrivilegeMissingError, QueryFailedError):
        return False


def _write_path(users: TableEvidence, table: str, column: str, source: str) -> str:
    if not (has_row_path(table, column) and has_row_path(users.name, source)):
        return ""
    return (
        f"{table}.{column}"
        if source == users.key
        else f"{table}.{column} -> {users.name}({source}).{users.key}"
    )


def find_named_rows(evidence: Evidence, users: TableEvidence) -> Mapping[str, list[str]]:
    """Return, by column (``table.column``) with names such as ``__user_5__``, their paths, as in ``users.cascade``."""
    keys = set(map(str, users.values(users.key)))
    paths = dict[str, list[str]]()
    for table in evidence.base_tables():
        for column in references.find_names(table, references.LABEL) if table.name != users.name else ():
            for value in map(str, table.values(column)):
                match = references.KEY_IN_NAME.search(value)
                if match is None or match[1] not in keys:
                    continue
                templates = paths.setdefault(f"{table.name}.{column}", [])
                text = f"{value[: match.start(1)]}{KEY_IN_TEXT}{value[match.end(1) :]}"
                is_text = not any(sign in text for sign in (".", "?", " -> ")) and has_row_path(
                    table.name, column
                )
                path = f"{table.name}.{column}={text}"
                if is_text and path not in templates:
                    templates.append(path)
    return paths

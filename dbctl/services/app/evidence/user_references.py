"""Columns that refer to users: by a foreign key, or by their names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from dbctl.model import Struct
from dbctl.services.app.evidence import names
from dbctl.services.app.evidence.gather import Evidence, TableEvidence

#: What happens to the rows when their user is deleted.
Deletion = Literal["handled", "blocked", "unhandled"]


class UserReference(Struct, frozen=True, kw_only=True):
    """A column with the key of a user."""

    table: str
    column: str
    #: ``handled``: a foreign key deletes the row or sets NULL; ``blocked``: a foreign key refuses the deletion;
    #: ``unhandled``: without a foreign key, the row remains
    deletion: Deletion

    @property
    def path(self) -> str:
        return f"{self.table}.{self.column}"


def find_user_references(evidence: Evidence, users: TableEvidence, key: str) -> Iterator[UserReference]:
    """Yield the columns of other tables that refer to a user; of names only those that usually have the key of a user."""
    for table in evidence.base_tables():
        if table.name == users.name:
            continue
        keyed = set[str]()
        for reference in table.references:
            if reference.table == users.name and len(reference.columns) == 1:
                column = reference.columns[0]
                keyed.add(column)
                is_handled = reference.on_delete in ("CASCADE", "SET NULL", "SET DEFAULT")
                if column in table.columns:
                    yield UserReference(
                        table=table.name, column=column, deletion="handled" if is_handled else "blocked"
                    )
        other_keys = {name for reference in table.references for name in reference.columns}
        for column in table.columns:
            if column not in other_keys and _is_named_after_users(table, column, users, key):
                yield UserReference(table=table.name, column=column, deletion="unhandled")


def list_compared_columns(evidence: Evidence, users: TableEvidence, key: str) -> dict[str, list[str]]:
    """Return, by table, the columns whose values ``find_user_references`` compares with the keys of users."""
    columns = dict[str, list[str]]()
    for table in evidence.base_tables():
        if table.name == users.name:
            continue
        other_keys = {name for reference in table.references for name in reference.columns}
        compared = [
            column
            for column in table.columns
            if column not in other_keys
            and (precision := _match_name(table, column, users))
            and _has_type_of_key(table, column, users, key)
            and not (precision == "exact" and _is_whole(users, key))
        ]
        if compared:
            columns[table.name] = compared
    return {users.name: [key], **columns} if columns else {}


def _is_named_after_users(table: TableEvidence, column: str, users: TableEvidence, key: str) -> bool:
    """Return whether the name of a column shows that it refers to users; a short name only if values are those of users."""
    precision = _match_name(table, column, users)
    if not precision or not _has_type_of_key(table, column, users, key):
        return False
    known, stored = set(map(str, users.values(key))), list(map(str, table.values(column)))
    if precision == "exact" and (not known or not stored or _is_whole(users, key)):
        return True
    return any(value in known for value in stored)


def _match_name(table: TableEvidence, column: str, users: TableEvidence) -> Literal["exact", "short", ""]:
    """Return how the name of a column refers to users; empty: it does not."""
    forms = {names.normalize(column), names.shorten(table, column)}
    own_name = f"{names.list_words(users.name)[-1]}_id"
    if own_name in forms or any(map(names.USER_REFERENCE.search, forms)):
        return "exact"
    return "short" if any(map(names.USER_WORD.search, forms)) else ""


def _has_type_of_key(table: TableEvidence, column: str, users: TableEvidence, key: str) -> bool:
    """Return whether a column can contain the keys of users: the same kind of type."""
    own, referenced = table.columns[column], users.columns[key]
    return (
        own.native == referenced.native
        and not own.is_generated
        and ("INT" in own.type) == ("INT" in referenced.type)
    )


def _is_whole(users: TableEvidence, key: str) -> bool:
    return "INT" in users.columns[key].type

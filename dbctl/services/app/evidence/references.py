"""Columns that refer to users, by a foreign key or by their names, and the names of columns of roles."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal

from dbctl.engines.contract.schema import SchemaReference
from dbctl.model import Struct
from dbctl.profiles.payloads import has_row_path, parse_row_path
from dbctl.services.app.evidence.gather import Evidence, TableEvidence

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@lru_cache(maxsize=20_000)
def normalize(name: str) -> str:
    """Return a name in lower case with underscores: ``lastLoginAt`` as ``last_login_at``."""
    return re.sub(r"[^a-z0-9]+", "_", _CAMEL.sub("_", name).lower()).strip("_")


ROLE = re.compile(r"^(user_?)?(role|roles|rank|level|user_type|type|group)(_?(id|slug|name|uuid))?$")
ADMIN_FLAG = re.compile(
    r"^(is_|user_)?(admin|administrator|super_?user|staff|owner|root|moderator|sys_?admin)(_flag)?$"
)
ADMIN_CANDIDATE = re.compile(
    r"(^|_)(super_?)?(admin|administrator|superuser|super|staff|owner|root|moderator|manager)(_|$)"
    r"|^(user_?)?(roles?|rights?|permissions?|perms|privileges?|flags|mask|level|access(_level)?)$"
)
#: Columns that are true for a user who cannot sign in, and those with the time since when.
INACTIVE_FLAG = re.compile(r"^(is_)?(disabled|blocked|banned|locked|deactivated|suspended|inactive)$")
INACTIVE_TIME = re.compile(r"^(deleted|disabled|banned|suspended|deactivated|locked)_(at|on|date)$")

#: Columns with the key of a user, without a foreign key: by names that always mean a user, and by those that often do.
USER_REFERENCE = re.compile(r"^(user|owner|author)_?(id|uuid|key|fk)$|^userid$|^(user|owner|author)_user_id$")
USER_WORD = re.compile(r"^(user|owner|author|uid)$")


def match_columns(table: TableEvidence, pattern: re.Pattern[str]) -> list[str]:
    """Return the columns whose name matches, also without the common prefix of the table."""
    return [
        column
        for column in table.columns
        if pattern.search(normalize(column)) or pattern.search(shorten(table, column))
    ]


def shorten(table: TableEvidence, column: str) -> str:
    """Return the name of a column without the prefix that most columns of the table have: ``user_email`` as ``email``."""
    return normalize(column).removeprefix(_common_prefix(tuple(table.columns)))


@lru_cache(maxsize=5_000)
def _common_prefix(columns: tuple[str, ...]) -> str:
    firsts = [normalize(column).partition("_")[0] for column in columns]
    common = max(set(firsts), key=firsts.count, default="")
    return f"{common}_" if firsts.count(common) * 2 > len(firsts) > 2 else ""  # noqa: PLR2004 - a prefix of two columns is chance


def list_words(name: str) -> list[str]:
    """Return the words of a name, without the plural: ``user_tokens`` as ``user``, ``token``."""
    return [word.removesuffix("s") for word in normalize(name).split("_")]


#: Deleted tables below users that are followed, by path; schemas with cycles have more paths than rows that matter.
MOST_PATHS = 400
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
            column = _find_user_column(reference, key) if reference.table == users.name else ""
            if column:
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


def _find_user_column(reference: SchemaReference, key: str) -> str:
    """Return the column of a foreign key that has the key of a user; empty: it refers to other columns of users."""
    if len(reference.columns) == 1:
        return reference.columns[0]
    pairs = dict(zip(reference.to, reference.columns, strict=False))
    return pairs.get(key, "")


class BlockingReference(Struct, frozen=True, kw_only=True):
    """A foreign key that prevents the deletion of rows which are deleted with their user."""

    table: str
    column: str  #: the first column of the key
    path: str  #: its path to the user, as in ``users.cascade``; empty: a profile cannot express it
    is_required: bool  #: the column cannot be NULL, so only the deletion of its row removes the reference
    steps: int  #: the number of tables between the row and the user, with its own

    @property
    def place(self) -> str:
        """The path, or the column if there is none."""
        return self.path or f"{self.table}.{self.column}"


class _DeletedRows(Struct, frozen=True):
    """Rows of a table that are deleted with their user."""

    table: str
    path: str  #: their path to the user; empty: a profile cannot express it
    above: frozenset[str]  #: the tables of the path


def find_blocking_references(
    evidence: Evidence, users: TableEvidence, key: str, deleted: Sequence[str]
) -> Iterator[BlockingReference]:
    """Yield the foreign keys below the rows that are deleted with a user, level by level; not those that refer to users themselves.

    ``deleted`` are the paths of rows that a profile deletes; foreign keys delete further ones.
    """
    paths = dict.fromkeys([*_list_cascading(evidence, users, key), *deleted])
    tables = {path: parse_row_path(path)[0].table for path in paths}
    queue = [_DeletedRows(table, path, frozenset([users.name, table])) for path, table in tables.items()]
    for parent in queue:  # the list grows during the loop
        for table in evidence.base_tables():
            for reference in table.references:
                if reference.table != parent.table or reference.on_delete in ("SET NULL", "SET DEFAULT"):
                    continue
                path = extend_path(evidence.tables.get(parent.table), parent.path, table, reference)
                if path in paths:
                    continue
                is_required = not all(
                    table.columns[name].nullable for name in reference.columns if name in table.columns
                )
                # Rows of a cycle that require each other are deleted by one statement, or by none.
                follows = table.name not in parent.above
                if reference.on_delete != "CASCADE" and (follows or not is_required):
                    yield BlockingReference(
                        table=table.name,
                        column=reference.columns[0],
                        path=path,
                        is_required=is_required,
                        steps=len(parent.above),
                    )
                if follows and (reference.on_delete == "CASCADE" or is_required) and len(queue) < MOST_PATHS:
                    queue.append(_DeletedRows(table.name, path, parent.above | {table.name}))


def _list_cascading(evidence: Evidence, users: TableEvidence, key: str) -> Iterator[str]:
    """Yield the rows that foreign keys delete with their user."""
    for table in evidence.base_tables():
        for reference in table.references:
            is_simple = list(reference.to) == [key] and has_row_path(table.name, reference.columns[0])
            if (
                is_simple
                and reference.table == users.name
                and reference.on_delete == "CASCADE"
                and table.name != users.name
            ):
                yield f"{table.name}.{reference.columns[0]}"


def extend_path(
    parent: TableEvidence | None, path: str, table: TableEvidence, reference: SchemaReference
) -> str:
    """Return the path of rows that refer to those of ``path`` of ``parent``; empty if a profile cannot express it."""
    column = reference.columns[0]
    if parent is None or not path or len(reference.columns) > 1 or not has_row_path(table.name, column):
        return ""
    primary = [name for name, definition in parent.columns.items() if definition.is_primary_key]
    if list(reference.to) == primary:
        return f"{table.name}.{column} -> {path}"
    start = f"{parent.name}."
    return (
        f"{table.name}.{column} -> {parent.name}({reference.to[0]}).{path.removeprefix(start)}"
        if path.startswith(start)
        else ""
    )


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
    forms = {normalize(column), shorten(table, column)}
    own_name = f"{list_words(users.name)[-1]}_id"
    if own_name in forms or any(map(USER_REFERENCE.search, forms)):
        return "exact"
    return "short" if any(map(USER_WORD.search, forms)) else ""


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

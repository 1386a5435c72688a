"""The names of databases, tables and columns in a profile: one walk over its sections, by the types of their fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, TypeAlias, Union, get_args, get_origin

import msgspec

from dbctl.model import Struct
from dbctl.profiles.model.base import ColumnNames, SchemaName, Section, is_optional
from dbctl.profiles.model.integrity import CrossLink
from dbctl.profiles.model.profile import Profile
from dbctl.profiles.payloads import parse_row_path

#: A path of keys and indexes in a profile.
Key: TypeAlias = tuple[str | int, ...]

#: Sections of the profile whose tables are in the database of the users.
IN_USERS_DATABASE = ("sessions", "roles", "rebuild")


class SchemaReference(Struct, frozen=True, kw_only=True):
    """A table or column that a profile names."""

    key: Sequence[str | int]  #: its key in the profile
    database: str
    table: str
    column: ColumnNames | None = None  #: None: the table itself
    is_table_optional: bool = False  #: whether deployments may lack the table

    @property
    def is_optional(self) -> bool:
        """Whether deployments may lack it."""
        return self.is_table_optional if self.column is None else is_optional(self.column)


class _Scope(Struct, frozen=True):
    """The database and table of a section, which the names in it refer to, and the scope of the enclosing section."""

    database: str
    table: str = ""
    is_optional: bool = False
    owner: _Scope | None = None


class _MarkedName(Struct, frozen=True):
    """A name in a profile, with the mark of its type."""

    key: Key
    mark: SchemaName
    value: str | list[str]
    scope: _Scope


def list_schema_references(profile: Profile, main: str) -> Iterator[SchemaReference]:
    """Yield every table and column that a profile names and that the live database must have, with its key.

    Sections are about ``main``, unless they name a database.
    """
    for name in _walk_profile(profile, main):
        yield from _resolve(name)
    for index, link in enumerate(profile.link):
        yield from _list_link_targets(("link", index), link)
    for section_name, section in profile.list_extension_sections().items():
        for key, database, table, column in section.list_columns():
            yield SchemaReference(key=(section_name, *key), database=database, table=table, column=column)


def list_database_references(profile: Profile) -> Iterator[tuple[Key, str]]:
    """Yield the names of databases in sections, with their keys."""
    for name in _walk_profile(profile, ""):
        if name.mark.kind == "database" and isinstance(name.value, str):
            yield name.key, name.value


# The walk --------------------------------------------------------------------------------------------------------


def _walk_profile(profile: Profile, main: str) -> Iterator[_MarkedName]:
    users_database = (profile.users.database if profile.users else "") or main
    for name, database in profile.databases.items():
        yield from _walk_section(database, ("databases", name), _Scope(name))
    for field in msgspec.structs.fields(profile):
        # The changes of a variant are part of its own profile; nothing reads a section of an extension that is absent.
        if field.name not in ("databases", "variants") and field.type is not Any:
            scope = _Scope(users_database if field.name in IN_USERS_DATABASE else main)
            yield from _walk(getattr(profile, field.name), field.type, (field.name,), scope)


def _walk_section(section: Section, key: Key, outer: _Scope) -> Iterator[_MarkedName]:
    fields = msgspec.structs.fields(section)
    database = getattr(section, "database", "") or outer.database
    scope = _Scope(database, outer.table, outer.is_optional, outer)
    for field in fields:
        mark, _ = _split_annotation(field.type)
        if mark and mark.kind == "table":
            table: str = getattr(section, field.name)
            is_optional = mark.optional or table.endswith("?") or getattr(section, "optional", False)
            is_compared = not (mark.varying and is_optional)
            scope = _Scope(database, table.removesuffix("?") if is_compared else "", is_optional, outer)
    for field in fields:
        value, field_key = getattr(section, field.name), (*key, field.encode_name)
        mark, _ = _split_annotation(field.type)
        if mark and value == "" and field.required:
            yield _MarkedName(field_key, mark, "", scope)
        yield from _walk(value, field.type, field_key, scope)


def _walk(value: object, kind: object, key: Key, scope: _Scope) -> Iterator[_MarkedName]:
    """Yield the names in a value of a field; ``kind`` is the type of the field."""
    mark, kind = _split_annotation(kind)
    if mark:
        if value and isinstance(value, str | list) and not (mark.is_pattern and "*" in value):
            yield _MarkedName(key, mark, value, scope)
    elif get_origin(kind) in (Union, UnionType):
        member = next((member for member in get_args(kind) if _accepts(member, value)), None)
        yield from _walk(value, member, key, scope)
    elif isinstance(value, Section):
        yield from _walk_section(value, key, scope)
    elif isinstance(value, Mapping):
        key_kind, value_kind = get_args(kind)
        key_mark, _ = _split_annotation(key_kind)
        for name, entry in value.items():
            yield from _walk(name, key_kind, key, scope)
            inner = _Scope(name, owner=scope) if key_mark and key_mark.kind == "database" else scope
            yield from _walk(entry, value_kind, (*key, name), inner)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, entry in enumerate(value):
            yield from _walk(entry, get_args(kind)[0], (*key, index), scope)


def _split_annotation(kind: object) -> tuple[SchemaName | None, object]:
    """Return the mark of a type, or None, and the type without annotations."""
    if get_origin(kind) is not Annotated:
        return None, kind
    kind, *annotations = get_args(kind)
    marks = [annotation for annotation in annotations if isinstance(annotation, SchemaName)]
    return (marks[-1] if marks else None), kind


def _accepts(kind: object, value: object) -> bool:
    """Return whether a member of a union is the type of a value."""
    _, kind = _split_annotation(kind)
    origin = get_origin(kind) or kind
    if origin in (Union, UnionType):
        return any(_accepts(member, value) for member in get_args(kind))
    return isinstance(origin, type) and isinstance(value, origin)


# From names to references ----------------------------------------------------------------------------------------


def _resolve(name: _MarkedName) -> Iterator[SchemaReference]:
    key, mark, value, scope = _report_key(name), name.mark, name.value, name.scope
    if mark.kind == "column":
        scope = _find_owner(scope) if mark.of_owner else scope
        if scope.table:
            yield SchemaReference(key=key, database=scope.database, table=scope.table, column=value)
    elif isinstance(value, list):
        return
    elif mark.kind == "table":
        if scope.table or not mark.varying:
            is_optional = scope.is_optional or value.endswith("?")
            yield SchemaReference(
                key=key, database=scope.database, table=value.removesuffix("?"), is_table_optional=is_optional
            )
    elif mark.kind == "row-path":
        yield from _resolve_row_path(key, scope.database, value)
    elif mark.kind in ("path", "table-path"):
        table, _, column = value.rpartition(".")
        if mark.kind == "table-path":
            yield SchemaReference(
                key=key, database=scope.database, table=table, is_table_optional=value.endswith("?")
            )
        yield SchemaReference(key=key, database=scope.database, table=table, column=column)


def _resolve_row_path(key: Key, database: str, path: str) -> Iterator[SchemaReference]:
    for step in parse_row_path(path):
        yield SchemaReference(
            key=key, database=database, table=step.table, is_table_optional=step.is_optional
        )
        for column in filter(None, (step.column, step.key, step.filter)):
            yield SchemaReference(key=key, database=database, table=step.table, column=column)


def _find_owner(scope: _Scope) -> _Scope:
    """Return the next enclosing scope with a table."""
    while scope.owner:
        scope = scope.owner
        if scope.table:
            break
    return scope


def _report_key(name: _MarkedName) -> Key:
    """Return the key under which a missing name is reported; entries of a list are reported under the list."""
    key = name.key
    if name.mark.kind != "row-path" and isinstance(key[-1], int):
        key = key[:-1]
    return key[: len(key) - name.mark.levels_up]


def _list_link_targets(key: Key, link: CrossLink) -> Iterator[SchemaReference]:
    """Yield the columns of the other database: these of the first target, and the earlier key."""
    table, _, column = link.targets[0].rpartition(".")
    columns = [("targets", table, column), *(("repeats", table, copied) for copied in link.repeats.values())]
    if link.renamed_from:
        former_table, _, former_column = link.renamed_from.rpartition(".")
        columns.append(("renamed_from", former_table, former_column))
    for name, table_name, column_name in columns:
        yield SchemaReference(key=(*key, name), database=link.to, table=table_name, column=column_name)

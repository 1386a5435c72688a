"""The catalog of a copy to the same engine, and the entries of its dump."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dbctl.engines.contract.schema import WRITE_LOCK
from dbctl.engines.postgresql import dump_limits, statements
from dbctl.engines.postgresql.catalog import (
    COPIED_TABLES,
    IN_USER_SCHEMA,
    OWN_FUNCTION,
    OWN_RELATION,
    OWN_TYPE,
    RELATIONS,
)
from dbctl.engines.postgresql.dump_programs import create_schema_if_missing
from dbctl.engines.postgresql.statements import LEXER
from dbctl.engines.sql.catalog import ident
from dbctl.extensions.transfer.engines.postgresql.schema import LARGE_OBJECTS
from dbctl.extensions.transfer.portable.native import NativeObject

IN_SCOPE = f"{IN_USER_SCHEMA} and (:scope = '' or n.nspname = :scope)"
#: Tables whose rows are copied, also partitions and those of extensions whose rows belong to the app. $scope limits them.
TABLES = f"""select n.nspname::text as schema, c.relname::text as name,
  array(select array[a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod)] from pg_catalog.pg_attribute a
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' order by a.attnum) as columns,
  array(select a.attname::text from pg_catalog.pg_index i cross join unnest(i.indkey) with ordinality k (number, at)
    join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = k.number
    where i.indrelid = c.oid and i.indisprimary and k.at <= i.indnkeyatts order by k.at) as key,
  coalesce(x.condition, '') as condition
from {COPIED_TABLES} and (e.objid is null or x.id is not null)
order by 1, 2"""
_OWNED = """(select c.relowner as owner, c.relacl as acl, c.relnamespace as place from pg_catalog.pg_class c
  union all select p.proowner, p.proacl, p.pronamespace from pg_catalog.pg_proc p
  union all select t.typowner, t.typacl, t.typnamespace from pg_catalog.pg_type t
  union all select n.nspowner, n.nspacl, n.oid from pg_catalog.pg_namespace n
  union all select null, a.attacl, c.relnamespace from pg_catalog.pg_attribute a
    join pg_catalog.pg_class c on c.oid = a.attrelid where a.attacl is not null
  union all select d.defaclrole, d.defaclacl, n.oid from pg_catalog.pg_default_acl d
    join pg_catalog.pg_namespace n on d.defaclnamespace in (0, n.oid))"""
#: Roles that own objects, and roles that have grants on them.
ROLES = f"""select r.rolname::text, bool_or(o.is_owner) from (
  select owned.owner as role, true as is_owner, owned.place from {_OWNED} owned where owned.owner is not null
  union all select a.grantee, false, owned.place from {_OWNED} owned
    cross join lateral pg_catalog.aclexplode(owned.acl) a where a.grantee <> 0) o
join pg_catalog.pg_roles r on r.oid = o.role join pg_catalog.pg_namespace n on n.oid = o.place
where {IN_SCOPE} group by 1 order by 1"""
#: Whether this role may use other roles as owners.
KNOWN_ROLES = """select r.rolname::text, pg_catalog.pg_has_role(current_user, r.oid, 'MEMBER') from pg_catalog.pg_roles r"""
SEQUENCES = f"""select n.nspname::text, c.relname::text {RELATIONS}
where c.relkind = 'S' and {IN_SCOPE}
  and c.relpersistence <> 't' and {OWN_RELATION} order by 1, 2"""
#: Materialized views with rows, those that others read first.
POPULATED = f"""select n.nspname::text, c.relname::text {RELATIONS}
where c.relkind = 'm' and c.relispopulated and {IN_SCOPE} and {OWN_RELATION} order by c.oid"""
#: What pg_dump describes, and a copy of the rows of tables lacks.
OMISSIONS = f"""{LARGE_OBJECTS}
union all select 'subscription', s.subname, 'it would receive changes of another server', false from pg_catalog.pg_subscription s
  where s.subdbid = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
union all select 'foreign table', c.oid::regclass::text, 'its rows are on another server', false
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.relkind = 'f' and (:scope = '' or n.nspname = :scope)
union all select 'index', i.indexrelid::regclass::text, 'it is invalid', false
  from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid and c.relkind = 'i'
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace where not i.indisvalid and (:scope = '' or n.nspname = :scope)"""
#: Anything that the destination of a copy must not have.
CONTENTS = f"""select c.oid::regclass::text {RELATIONS}
where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and {IN_SCOPE} and c.relpersistence <> 't' and {OWN_RELATION}
union all select format('%s', p.oid::regprocedure) from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where {IN_SCOPE} and {OWN_FUNCTION}
union all select format_type(t.oid, null) from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
where t.typtype in ('d', 'e') and {IN_SCOPE} and {OWN_TYPE}
order by 1"""
#: Schemas that a copy of one schema leaves out.
OTHER_SCHEMAS = f"""select distinct n.nspname::text from pg_catalog.pg_namespace n
join pg_catalog.pg_class c on c.relnamespace = n.oid where n.nspname not in ('information_schema', :scope) and n.nspname !~ '^pg_'
and {OWN_RELATION} order by 1"""
ENCODING = "select pg_catalog.pg_encoding_to_char(encoding)::text from pg_catalog.pg_database where datname = current_database()"


#: The comment before an object. The parts of a name may contain anything but line breaks.
_HEADER = re.compile(r"Name: (?P<name>.*); Type: (?P<kind>[A-Z ]+); Schema: (?P<schema>.*); Owner: .*")
#: Commands of psql around the text of newer programs.
_COMMANDS = re.compile(r"^\\(?:un)?restrict .*$", re.MULTILINE)
#: Settings that hold for the objects that follow. pg_dump writes them before the comment of an object, and only if they change.
_STORAGE = re.compile(r"SET (?P<name>default_(?:tablespace|table_access_method)) = (?P<value>.+)")
#: Their values without such a statement.
STORAGE_DEFAULTS = {"default_tablespace": "''", "default_table_access_method": "heap"}
#: The settings that concern an object; others do not depend on what happens to precede them.
_STORAGE_OF = {
    "CONSTRAINT": ["default_tablespace"],
    "INDEX": ["default_tablespace"],
    "MATERIALIZED VIEW": list(STORAGE_DEFAULTS),
    "TABLE": list(STORAGE_DEFAULTS),
}
#: The first objects after the tables: what changes or refuses rows, or slows down a copy.
_LATER = frozenset(
    {
        "ACL",
        "CHECK CONSTRAINT",
        "CONSTRAINT",
        "DEFAULT ACL",
        "EVENT TRIGGER",
        "FK CONSTRAINT",
        "INDEX",
        "INDEX ATTACH",
        "POLICY",
        "PUBLICATION",
        "PUBLICATION TABLE",
        "PUBLICATION TABLES IN SCHEMA",
        "ROW SECURITY",
        "RULE",
        "STATISTICS",
        "TRIGGER",
    }
)


class SchemaText(NamedTuple):
    """The objects before and after the rows."""

    before: Sequence[NativeObject]
    after: Sequence[NativeObject]


@dataclass
class Entry:
    """One object in the order of the text."""

    kind: str
    name: str
    schema: str
    statements: list[str]


def parse_schema(text: str, *, version: int, old: str = "", new: str = "", ignored: str = "") -> SchemaText:
    """Return the objects of the text of ``pg_dump --schema-only``.

    Args:
        text: the text.
        version: the major version of the server that will create them.
        old: the name of a schema that the destination calls ``new``, and has already; empty: schemas have the same names.
        new: this name.
        ignored: the name of a table that is left out.
    """
    encoded = dump_limits.adapt_to_server([text.encode("utf-8", "surrogateescape")], version)
    text = _COMMANDS.sub("", b"".join(encoded).decode("utf-8", "surrogateescape"))
    entries = _list_entries(text, ignored)
    for entry in entries:
        if entry.kind == "SCHEMA":  # a destination may have it already, if its search path names it
            entry.statements = [*map(_create_missing, entry.statements)]
    if new:
        entries = [entry for entry in entries if not _is_schema(entry, old)]
    if old != new:
        for entry in entries:
            entry.statements = [rename_schema(sql, old, new) for sql in entry.statements]
            entry.schema = new if entry.schema == old else entry.schema
    start = next((index for index, entry in enumerate(entries) if entry.kind in _LATER), len(entries))
    return SchemaText([*map(_create_object, entries[:start])], [*map(_create_object, entries[start:])])


#: The statement for the owner of a relation other than a table, which pg_dump wrote as ``ALTER TABLE`` before version 16.
_OWNER = re.compile(r"\AALTER (?:SEQUENCE|VIEW|MATERIALIZED VIEW)(?= .* OWNER TO )")


def _split_entries(text: str) -> Iterator[Entry]:
    """Yield the objects, first the statements before them, as an object without a kind."""
    headers = [
        (line, match)
        for line, comment in statements.SCRIPTS.comments(text)
        if (match := _HEADER.fullmatch(comment)) is not None
    ]
    entry, position = Entry("", "", "-", []), 0
    for line, sql in statements.SCRIPTS.split(text):
        while position < len(headers) and headers[position][0] < line:
            yield entry
            match = headers[position][1]
            entry = Entry(match["kind"], match["name"], match["schema"], [])
            position += 1
        entry.statements.append(_OWNER.sub("ALTER TABLE", sql.removesuffix(";")))
    yield entry


def _is_of_table(entry: Entry, table: str) -> bool:
    """Whether an object is a table, its comment or privileges, or a constraint of it."""
    return bool(table) and entry.name.removeprefix("TABLE ").split(" ")[0] == table


def _list_entries(text: str, ignored: str) -> list[Entry]:
    entries, storage = list[Entry](), dict(STORAGE_DEFAULTS)
    for entry in _split_entries(text):
        matches = [match for sql in entry.statements if (match := _STORAGE.fullmatch(sql))]
        statements = [sql for sql in entry.statements if not _STORAGE.fullmatch(sql)]
        changed = [
            name for name in _STORAGE_OF.get(entry.kind, ()) if storage[name] != STORAGE_DEFAULTS[name]
        ]
        entry.statements = [
            *(f"SET {name} = {storage[name]}" for name in changed),
            *statements,
            *(f"SET {name} = {STORAGE_DEFAULTS[name]}" for name in changed),
        ]
        if entry.kind and not _is_lock(entry) and not _is_of_table(entry, ignored):
            entries.append(entry)
        storage |= {match["name"]: match["value"] for match in matches}
    return entries


def _is_lock(entry: Entry) -> bool:
    """Whether an object makes the source of a transfer refuse writes."""
    kind, last_word = entry.kind, entry.name.split(" ")[-1]
    return (kind, last_word) in (("TRIGGER", WRITE_LOCK), ("FUNCTION", f"{WRITE_LOCK}()"))


_SCHEMA = re.compile(rb"CREATE SCHEMA (.+)", re.DOTALL)


def _create_missing(sql: str) -> str:
    """Return a statement about a schema that creates it only if it is missing."""
    text = _SCHEMA.sub(create_schema_if_missing, sql.encode("utf-8", "surrogateescape"))
    return text.removesuffix(b";\n").decode("utf-8", "surrogateescape")


def _is_schema(entry: Entry, name: str) -> bool:
    """Whether an object is a schema, or its comment or privileges."""
    return entry.schema == "-" and entry.name in (name, f"SCHEMA {name}", f"SCHEMA {ident(name)}")


def _create_object(entry: Entry) -> NativeObject:
    name = entry.name if entry.schema == "-" else f"{entry.schema}.{entry.name}"
    return NativeObject(kind=entry.kind.lower(), name=name, statements=entry.statements)


def rename_schema(sql: str, old: str, new: str) -> str:
    """Return a statement of pg_dump in which a schema has another name.

    The program qualifies every name outside of the bodies of functions, also the names of sequences in defaults.
    """
    tokens = list(LEXER.tokenize(sql))
    names = {ident(old): ident(new), old: ident(new)}
    result = list[str]()
    for index, token in enumerate(tokens):
        following = tokens[index + 1].text if index + 1 < len(tokens) else ""
        preceding = tokens[index - 1].text if index else ""
        if token.kind in ("word", "name") and following == "." and preceding != "." and token.text in names:
            result.append(names[token.text])
        elif token.kind == "text" and following == "::" and _follows(tokens, index + 2, "regclass"):
            result.append(_rename_quoted(token.text, names))
        else:
            result.append(token.text)
    return "".join(result)


def _follows(tokens: Sequence[object], index: int, word: str) -> bool:
    return index < len(tokens) and getattr(tokens[index], "text", "").lower() == word


def _rename_quoted(literal: str, names: Mapping[str, str]) -> str:
    """Return the literal of a qualified name with another schema."""
    content = literal[1:-1].replace("''", "'")
    for old, new in names.items():
        if content.startswith(f"{old}."):
            content = new + content.removeprefix(old)
            return "'" + content.replace("'", "''") + "'"
    return literal

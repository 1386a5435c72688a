"""The whole schema of a SQLite file, read in one snapshot from its pragmas, and from the CREATE statements, in one spelling, for what no pragma contains."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby, pairwise
from operator import attrgetter, itemgetter
from typing import cast

from dbctl.engines.contract.schema import (
    Schema,
    SchemaCode,
    SchemaColumn,
    SchemaIndex,
    SchemaReader,
    SchemaReference,
    SchemaTable,
)
from dbctl.engines.parsing.lexer import Token
from dbctl.engines.parsing.statements import Word, WordReader, unquote_name
from dbctl.engines.sql.catalog import Row, is_storable, quote_literal
from dbctl.engines.sqlite.catalog import VIRTUAL
from dbctl.engines.sqlite.database import SQLitePart
from dbctl.engines.sqlite.lint import LEXER
from dbctl.engines.sqlite.values import find_affinity

_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*")

#: Words that cannot name a column without quotes, or that have another meaning without quotes.
RESERVED = frozenset(
    """add all alter and as autoincrement between case check collate commit constraint create current_date current_time
    current_timestamp default deferrable delete distinct drop else escape exists false foreign from group having in
    index insert into is isnull join limit not nothing notnull null on or order primary references returning select set
    table then to transaction true union unique update using values when where""".split()
)
#: Words that can precede a value; after other words, a name is an alias.
_BEFORE_A_VALUE = RESERVED - {"as"} | frozenset(
    {"by", "except", "filter", "glob", "intersect", "like", "match", "over", "recursive", "regexp", "with"}
)


Words = Sequence[Word]


def read_normal_words(sql: str, names: Collection[str]) -> Words:
    """Return the words of ``sql`` in normal form; a quoted name has quotes only if it requires them.

    ``names`` are the existing tables and columns, in lower case: SQLite reads any other word in double quotes as text.
    """
    return [_normalize_token(token, names) for token in LEXER.read_significant(sql)]


def _normalize_token(token: Token, names: Collection[str]) -> Word:
    if token.kind == "name":
        name = unquote_name(token.text)
        if token.text[0] == '"' and name.lower() not in names:
            return Word("text", quote_literal(name))
        return _name_word(name)
    if token.kind == "text" and token.text[0] == "'":
        return Word("text", token.text)
    kind = {"text": "number", "end": "sign"}.get(token.kind, token.kind)  # a BLOB is written as digits
    return Word("number" if kind == "number" else "word" if kind == "word" else "sign", token.text.lower())


def find_unknown_names(sql: str, names: Collection[str]) -> list[str]:
    """Return the words in double quotes that are neither in ``names`` nor defined as an alias in ``sql``."""
    tokens = LEXER.read_significant(sql)
    words = ["", *(token.text.lower() for token in tokens), "", ""]
    known, unknown_names = set(names), list[str]()
    for index, token in enumerate(tokens):
        previous, following = words[index], words[index + 2 : index + 4]
        if token.text[0] != '"' or "." in (previous, following[0]) or previous in ("from", "join"):
            continue  # SQLite always reads a name in this position
        name = unquote_name(token.text)
        is_alias = (
            index
            and (tokens[index - 1].kind not in ("sign", "end") or previous == ")")
            and previous not in _BEFORE_A_VALUE
        )
        if is_alias or following == ["as", "("]:
            known.add(name.lower())
        else:
            unknown_names.append(name)
    return [name for name in unknown_names if name.lower() not in known]


def normalize_default(sql: str) -> str:
    """Return a default in normal form; an unreserved word is a text, because a default cannot refer to columns."""
    words = read_normal_words(sql, ())
    if len(words) == 1 and words[0].kind in ("word", "name") and words[0].text not in RESERVED:
        plain = sql.strip() if words[0].kind == "word" else sql.strip()[1:-1]
        return quote_literal(plain)
    return re.sub(r"^([+-]) ", r"\1", join_words(words))


def _name_word(text: str) -> Word:
    lower = text.lower()
    if _PLAIN.fullmatch(lower) and lower not in RESERVED:
        return Word("name", lower)
    return Word("name", '"' + lower.replace('"', '""') + '"')


def join_words(words: Words) -> str:
    """Join words into SQL, with conventional blanks."""
    text, previous = "", Word("sign", "(")
    for word in words:
        is_attached = word.text in {",", ")", ".", ";"} or previous.text in {"(", "."}
        is_call = (
            word.text == "("
            and (previous.kind == "name" or previous.text not in RESERVED)
            and previous.kind in ("word", "name")
        )
        text += word.text if is_attached or is_call else f" {word.text}"
        previous = word
    return text


#: First words of table constraints in CREATE TABLE.
_CONSTRAINTS = frozenset({"constraint", "primary", "unique", "check", "foreign"})
_TRIGGER_TIMES = frozenset({"before", "after", "instead"})


def parse_index(sql: str, names: Collection[str]) -> tuple[Sequence[str], str]:
    """Return the terms in a CREATE INDEX statement, without collation and direction, and its condition."""
    tokens = read_normal_words(sql, names)
    opening = tokens.index(Word("sign", "("), tokens.index(Word("word", "on")))
    closing = _find_closing(tokens, opening)
    terms = []
    for part in _split_at_commas(tokens[opening + 1 : closing]):
        term = list(part)
        if term[-1] in (Word("word", "asc"), Word("word", "desc")):
            term.pop()
        if Word("word", "collate") in term[-2:-1]:
            del term[-2:]
        terms.append(join_words(term))
    return terms, join_words(tokens[closing + 2 :])


def normalize_trigger(sql: str, names: Collection[str]) -> str:
    """Return the event and body of a trigger in normal form, with defaults made explicit."""
    tokens = _skip_name(read_normal_words(sql, names), "trigger")
    text = re.sub(r"^([^']*?) for each row\b", r"\1", join_words(tokens))
    return text if tokens[0].text in _TRIGGER_TIMES else f"before {text}"


def normalize_virtual_table(sql: str) -> str:
    """Return what follows the name of a virtual table: ``using fts5(…)``.

    Case and blanks are normalized; quotes are not, because their meaning depends on the module.
    """
    tokens = LEXER.read_significant(sql)
    name = next(index for index, token in enumerate(tokens) if token.text.lower() == "table") + 1
    text = ""
    for previous, token in pairwise(tokens[name:]):
        word = token.text.lower() if token.kind == "word" else token.text
        is_separated = previous.start + len(previous.text) < token.start and "sign" not in (
            previous.kind,
            token.kind,
        )
        text += f" {word}" if text and (is_separated or previous.text == ",") else word
    return text


class _TableText:
    """What only a CREATE TABLE statement contains."""

    def __init__(self, sql: str, names: Collection[str]) -> None:
        tokens = read_normal_words(sql, names)
        opening = tokens.index(Word("sign", "("))
        closing = _find_closing(tokens, opening)
        elements = [_TableElement(element) for element in _split_at_commas(tokens[opening + 1 : closing])]
        self.columns = [element for element in elements if element.is_column]  #: in their order
        self.checks = sorted(check for element in elements for check in element.checks)
        options = {join_words(option) for option in _split_at_commas(tokens[closing + 1 :])} - {""}
        self.options = sorted(options.union(*(element.options for element in elements)))
        #: columns of the foreign keys that are checked at the end of the transaction
        self.deferred = {keys for element in elements for keys in element.deferred}


class _TableElement:
    """One column or one constraint of a CREATE TABLE statement."""

    def __init__(self, tokens: Words) -> None:
        self._tokens = tokens
        self.is_column = not (tokens[0].kind == "word" and tokens[0].text in _CONSTRAINTS)
        self.collation = self.generated = ""
        self.checks, self.options = list[str](), set[str]()
        self.deferred = list[tuple[str, ...]]()
        self._parse()

    def _parse(self) -> None:
        tokens, keys = self._tokens, tuple[str, ...]()
        position = 0
        if self.is_column:
            keys, position = (tokens[0].text.strip("'\"").lower(),), 1
        while position < len(tokens):
            word = tokens[position].text if tokens[position].kind == "word" else ""
            group = self._read_group(position + 1)
            if word == "check" and group:
                self.checks.append(join_words(group))
            elif word == "as" and group:
                following = [token.text for token in tokens[position + len(group) + 3 :]]
                self.generated = (
                    f"{join_words(group)} {'stored' if following[:1] == ['stored'] else 'virtual'}"
                )
            elif word == "collate":
                self.collation = tokens[position + 1].text.strip("'\"").upper()
            elif word == "autoincrement":
                self.options.add(word)
            elif word == "conflict":
                location = (
                    f"{keys[0]} {tokens[position - 2].text}"
                    if self.is_column
                    else join_words(tokens[: position - 1])
                )
                self.options.add(f"{location} on conflict {tokens[position + 1].text}")
            elif word == "key" and group and tokens[position - 1].text == "foreign":
                keys = tuple(token.text.strip("'\"").lower() for token in group if token.kind != "sign")
            elif word == "deferred" and not self._is_negated(position):
                self.deferred.append(keys)
            position += 1 if tokens[position].text != "(" else len(self._read_group(position)) + 2

    def _read_group(self, position: int) -> Words:
        """Return the tokens in the parentheses that open at ``position``; empty without parentheses."""
        if position >= len(self._tokens) or self._tokens[position] != Word("sign", "("):
            return ()
        return self._tokens[position + 1 : _find_closing(self._tokens, position)]

    def _is_negated(self, position: int) -> bool:
        return [token.text for token in self._tokens[position - 3 : position - 1]] == ["not", "deferrable"]


def _skip_name(tokens: Words, kind: str) -> Words:
    """Return the tokens after the name in CREATE … ``kind`` name."""
    start = tokens.index(Word("word", kind)) + 2
    return tokens[start + 2 :] if tokens[start : start + 1] == [Word("sign", ".")] else tokens[start:]


def _find_closing(tokens: Words, opening: int) -> int:
    after = tokens[opening:]
    return opening + next(WordReader(after).outside_brackets(), len(after))


def _split_at_commas(words: Words) -> list[Words]:
    return [reader.words for reader in WordReader(words).split_at_commas()]


_ENTRIES = "select type, name, tbl_name, sql from sqlite_master where name not like 'sqlite!_%' escape '!' order by lower(name), name"
_FROM_TABLES = (
    "from sqlite_master m join {} where m.name in (select value from json_each(:tables)) order by {}"
)
_COLUMNS = 'select m.name, x.name, x.type, x."notnull", x.dflt_value, x.pk ' + _FROM_TABLES.format(
    "pragma_table_xinfo(m.name) x", "m.name, x.cid"
)
_KEYS = 'select m.name, f.id, f."from", f."table", f."to", f.on_update, f.on_delete ' + _FROM_TABLES.format(
    "pragma_foreign_key_list(m.name) f", "m.name, f.id, f.seq"
)
_INDEXES = 'select m.name, l.name, l."unique", l.origin, i.name, i."desc", i.coll ' + _FROM_TABLES.format(
    "pragma_index_list(m.name) l join pragma_index_xinfo(l.name) i on i.key = 1", "m.name, l.name, i.seqno"
)


class SQLiteSchemaReader(SQLitePart, SchemaReader):
    def schema(self) -> Schema:
        return build_schema(*self._connection.retry_if_changed(self._read_catalog))

    def comments(self, table: str) -> Mapping[str, str]:
        self._catalog.require_table(table)
        return {}  # SQLite stores comments only in the text of statements

    def _read_catalog(self) -> list[tuple[Row, ...]]:
        """Read the catalog and the pragmas; read again if another connection changed the schema in between."""
        while True:
            version = self._connection.rows("pragma schema_version")
            entries = self._connection.rows(_ENTRIES)
            parameters = {
                "tables": json.dumps(
                    [name for kind, name, _, sql in entries if _has_pragmas(str(kind), str(name), str(sql))]
                )
            }
            details = [tuple(self._connection.rows(sql, parameters)) for sql in (_COLUMNS, _KEYS, _INDEXES)]
            if self._connection.rows("pragma schema_version") == version:
                return [tuple(entries), *details]


def _has_pragmas(kind: str, name: str, sql: str) -> bool:
    """Whether pragmas work: not for modules that only the app loads, nor for names that are not valid text."""
    return kind == "table" and is_storable(name) and not re.match(VIRTUAL, sql)


#: Suffixes of the shadow tables of full-text and R-tree modules.
_SHADOWS = "config content data docsize idx node parent rowid segdir segments stat".split()


@lru_cache(maxsize=4)  # a database, its backup and the restored database have the same catalog
def build_schema(
    entries: tuple[Row, ...], columns: tuple[Row, ...], keys: tuple[Row, ...], indexes: tuple[Row, ...]
) -> Schema:
    """Return the schema in the rows of the catalog and of the pragmas for columns, foreign keys and indexes."""
    return _SchemaBuilder(entries, columns, keys, indexes).build()


class _SchemaBuilder:
    def __init__(
        self, entries: Sequence[Row], columns: Sequence[Row], keys: Sequence[Row], indexes: Sequence[Row]
    ) -> None:
        self._entries = [tuple(str(value or "") for value in entry) for entry in entries]
        self._columns, self._keys, self._indexes = (
            {str(table): list(rows) for table, rows in groupby(details, key=itemgetter(0))}
            for details in (columns, keys, indexes)
        )
        self._names = {entry[1].lower() for entry in self._entries}
        self._names |= {str(row[1]).lower() for row in columns}
        self._texts = {name: sql for kind, name, _, sql in self._entries if kind == "index"}

    def build(self) -> Schema:
        shadows = {
            f"{name}_{suffix}".lower()
            for kind, name, _, sql in self._entries
            if kind == "table" and re.match(VIRTUAL, sql)
            for suffix in _SHADOWS
        }
        tables = [
            self._build_table(name, sql) if name in self._columns else self._build_virtual_table(name, sql)
            for kind, name, _, sql in self._entries
            if kind == "table" and name.lower() not in shadows
        ]
        return Schema(tables=tables, codes=list(self._build_codes()))

    def _build_codes(self) -> Iterator[SchemaCode]:
        for kind, name, table, sql in self._entries:
            if kind == "view":
                query = join_words(_skip_name(read_normal_words(sql, self._names), "view"))
                yield SchemaCode(kind="view", name=name, text=query)
            elif kind == "trigger":
                text = normalize_trigger(sql, self._names)
                yield SchemaCode(kind="trigger", name=name, table=table, text=text)

    def _build_virtual_table(self, name: str, sql: str) -> SchemaTable:
        options = [normalize_virtual_table(sql)]
        return SchemaTable(
            name=name, columns=(), key=(), indexes=(), references=(), checks=(), options=options
        )

    def _build_table(self, name: str, sql: str) -> SchemaTable:
        text = _TableText(sql, self._names)
        indexes = list(self._build_indexes(self._indexes.get(name, ())))
        references = self._build_references(self._keys.get(name, ()), text.deferred)
        primary_indexes = [index for origin, index in indexes if origin == "pk"]
        key = self._find_primary_key(name)
        return SchemaTable(
            name=name,
            columns=[
                _build_column(row, column_text, key)
                for row, column_text in zip(self._columns[name], text.columns, strict=True)
            ],
            key=primary_indexes[0].columns if primary_indexes else key,
            indexes=sorted(
                (index for origin, index in indexes if origin != "pk"), key=attrgetter("name", "columns")
            ),
            references=sorted(references, key=attrgetter("columns", "table", "to")),
            checks=text.checks,
            options=text.options,
        )

    def _build_indexes(self, rows: Sequence[Row]) -> Iterator[tuple[str, SchemaIndex]]:
        """Yield each index of a table with its origin: ``c`` for CREATE INDEX, ``u`` and ``pk`` for constraints."""
        for key, group in groupby(rows, key=itemgetter(1)):
            name, index_rows = str(key), list(group)
            sql = self._texts.get(name, "")
            terms, condition = parse_index(sql, self._names) if sql else ((), "")
            columns = []
            for position, (_, _, _, _, column, descending, collation) in enumerate(index_rows):
                term = terms[position] if column is None else str(column)
                collation_name = str(collation).upper()
                term += "" if collation_name == "BINARY" else f" collate {collation_name}"
                columns.append(f"{term} desc" if descending else term)
            index = SchemaIndex(
                name=name if sql else "", columns=columns, unique=bool(index_rows[0][2]), where=condition
            )
            yield str(index_rows[0][3]), index

    def _build_references(
        self, rows: Sequence[Row], deferred: Collection[tuple[str, ...]]
    ) -> Iterator[SchemaReference]:
        for _, group in groupby(rows, key=itemgetter(1)):
            key_rows = list(group)
            _, _, _, target, _, on_update, on_delete = key_rows[0]
            table = next((name for name in self._columns if name.lower() == str(target).lower()), str(target))
            spelling = {str(row[1]).lower(): str(row[1]) for row in self._columns.get(table, ())}
            target_columns = [str(row[4]) for row in key_rows if row[4] is not None]
            columns = [str(row[2]) for row in key_rows]
            yield SchemaReference(
                columns=columns,
                table=table,
                to=[spelling.get(column.lower(), column) for column in target_columns]
                or self._find_primary_key(table),
                on_update=str(on_update),
                on_delete=str(on_delete),
                deferred=tuple(column.lower() for column in columns) in deferred,
            )

    def _find_primary_key(self, table: str) -> list[str]:
        """Return the primary key of a table, to which a foreign key without columns refers."""
        keyed = sorted((cast("int", row[5]), str(row[1])) for row in self._columns.get(table, ()) if row[5])
        return [column for _, column in keyed]


def _build_column(row: Row, column_text: _TableElement, key: Sequence[str]) -> SchemaColumn:
    _, name, kind, not_null, default, _ = row
    declared = join_words(read_normal_words(str(kind or ""), ())).upper()
    if column_text.generated:  # with unusual blanks SQLite reads these words as part of the type
        declared = re.sub(r" ?GENERATED( ALWAYS)?$", "", declared)
    is_rowid = declared == "INTEGER" and list(key) == [name]
    return SchemaColumn(
        name=str(name),
        type=declared,
        storage=find_affinity(declared),
        nullable=not (not_null or is_rowid),
        default=None if default is None else normalize_default(str(default)),
        collation="" if column_text.collation == "BINARY" else column_text.collation,
        generated=column_text.generated,
    )

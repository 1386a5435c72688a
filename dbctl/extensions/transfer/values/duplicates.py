"""Rows that differ in the source, and are equal in a unique index of the destination, which compares less of them."""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import pairwise

from dbctl.engines.contract.database import Readable
from dbctl.engines.parsing.statements import unquote_name
from dbctl.extensions.transfer.portable.contract import (
    IndexTerm,
    LineColumn,
    PortableSchema,
    PortableSchemas,
    PortableTable,
    RowSource,
    require,
)
from dbctl.extensions.transfer.portable.lines import split_line
from dbctl.extensions.transfer.tables import TransferTable
from dbctl.extensions.transfer.values.unstorable import MAX_KEYS, CopyProblem, format_key
from dbctl.model import Row, Struct, split_batches

_TEXT = r"'(?:[^']|'')*'"
_CAST = r"(?:\s*::\s*[a-z]+(?: varying)?(?:\(\d+\))?)?"
_GROUPED_NOT = re.compile(rf"{_TEXT}|\bnot\s*\(", re.IGNORECASE)
_PARENTHESIS = re.compile(rf"({_TEXT})|[()]")
#: One comparison of a conjunction, without parentheses.
_TEST = re.compile(
    rf"""\s*(?P<not>not\s+)?(?P<column>"(?:[^"]|"")+"|`(?:[^`]|``)+`|[a-z_]\w*){_CAST}\s*"""
    rf"(?:(?P<null>is\s+(?P<present>not\s+)?null)|(?:=|is)\s*(?P<value>true|false|-?\d+|{_TEXT}){_CAST})?\s*(?P<and>and\b|$)",
    re.IGNORECASE,
)
_TRUTH = {"true": "1", "false": "0"}


class Comparison(Struct, frozen=True):
    """A comparison of a column that rows of a partial index fulfil."""

    column: str
    value: str | None  #: the text of a line; None: NULL
    is_negated: bool = False

    def accepts(self, value: bytes | None) -> bool:
        """Whether a row with this value fulfils it."""
        if self.value is None:
            return (value is None) != self.is_negated
        if value is None:
            return False
        return (value.decode(errors="surrogateescape") == self.value) != self.is_negated


def parse_condition(where: str) -> frozenset[Comparison] | None:
    """Return the comparisons of a condition, all of which hold; None if it is more than a few comparisons with constants."""
    if any(match[0][0] != "'" for match in _GROUPED_NOT.finditer(where)):
        return None
    text, position, comparisons = _PARENTHESIS.sub(lambda match: match[1] or " ", where), 0, set[Comparison]()
    while match := _TEST.match(text, position):
        if match["value"] and match["not"]:
            return None
        comparisons.add(_read_comparison(match.groupdict()))
        position = match.end()
        if not match["and"]:
            return frozenset(comparisons)
    return None


def _read_comparison(parts: Mapping[str, str | None]) -> Comparison:
    column = parts["column"] or ""
    name = unquote_name(column) if column[0] in '"`' else column
    if parts["null"]:
        return Comparison(name, None, is_negated=bool(parts["present"]) != bool(parts["not"]))
    if value := parts["value"]:
        text = value[1:-1].replace("''", "'") if value[0] == "'" else _TRUTH.get(value.lower(), value)
        return Comparison(name, text)
    return Comparison(name, "0", is_negated=not parts["not"])


#: Digests are sorted in this number of parts, so that only one part at a time is a list.
_PARTS = 64
_DIGEST_BYTES = 8
#: Texts that the destination folds with one statement.
_BATCH = 500
#: An index over the lower case of a column, in the words of PostgreSQL.
_LOWER = re.compile(r'\(*lower\(\(*"?(.+?)"?\)?(?:::text)?\)\)*')
#: Letters that some collations compare with others.
_LETTERS = str.maketrans({"æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ł": "l", "ı": "i", "ð": "d", "þ": "th"})


class _Term(Struct, frozen=True):
    """What a unique index compares of a column."""

    column: str
    case: int  #: what it ignores: 0 nothing, 1 the case of ASCII letters, 2 the case of all letters
    ignores_accents: bool
    ignores_spaces: bool
    prefix: int | None = None

    def ignores_more(self, other: _Term) -> bool:
        """Whether values that are equal here may differ there."""
        return (
            self.case > other.case
            or self.ignores_accents > other.ignores_accents
            or self.ignores_spaces > other.ignores_spaces
            or (self.prefix is not None and (other.prefix is None or other.prefix > self.prefix))
        )

    @property
    def is_exact(self) -> bool:
        """Whether ``cut`` decides what is equal."""
        return not self.case and not self.ignores_accents

    def cut(self, value: bytes) -> str:
        """Return the part of a value that is compared."""
        text = value.decode(errors="surrogateescape")[: self.prefix]
        return text.rstrip(" ") if self.ignores_spaces else text

    def fold(self, text: str) -> str:
        """Return a text that is the same for equal texts, and also for a few others."""
        if self.is_exact:
            return text
        plain = unicodedata.normalize("NFKD", text).casefold()
        plain = "".join(sign for sign in plain if not unicodedata.combining(sign)).translate(_LETTERS)
        return plain.replace("ss", "s")


class _Unique(Struct, frozen=True):
    """A primary key or unique index."""

    terms: Sequence[_Term]
    condition: frozenset[Comparison] = frozenset()  #: of a partial index

    @property
    def names(self) -> Sequence[str]:
        return sorted(term.column for term in self.terms)

    @property
    def columns(self) -> set[str]:
        return {term.column for term in self.terms} | {each.column for each in self.condition}


def find_duplicates(
    source: Readable,
    tables: Sequence[TransferTable],
    source_schema: PortableSchema,
    destination: PortableSchema,
    schemas: PortableSchemas,
) -> Iterator[CopyProblem]:
    """Yield rows that a unique index of the destination treats as equal to other rows.

    Only indexes that the source lacks, or that compare less of a value than the source does, are read. Memory is 8 bytes for each row.

    Args:
        source: the source, in a snapshot.
        tables: the tables to copy.
        source_schema: the schema of the source.
        destination: the schema of the destination, or of its trial.
        schemas: the part of the destination that decides which texts are equal.
    """
    others = {table.name: table for table in destination.tables}
    before = {table.name: table for table in source_schema.tables}
    for table in tables:
        if table.name in others and table.name in before:
            own, other = before[table.name], others[table.name]
            cases = _count_cases(require(source, PortableSchemas)), _count_cases(schemas)
            for unique in _list_comparisons(own, other, *cases):
                if unique.columns <= {column.name for column in table.columns}:
                    yield from _compare_rows(require(source, RowSource), table, unique, schemas)


def _count_cases(schemas: PortableSchemas) -> int:
    """Return what an index that ignores case ignores, as ``_Term.case``."""
    return 1 + schemas.limits.folds_all_letters


def _list_comparisons(
    source: PortableTable, destination: PortableTable, source_case: int, case: int
) -> Iterator[_Unique]:
    """Yield each unique index of the destination that may have more duplicates than the source."""
    known = list(_list_unique(source, source_case))
    for unique in _list_unique(destination, case):
        # a unique index of the source covers it if it has at least the same rows
        same = [each for each in known if each.names == unique.names and each.condition <= unique.condition]
        is_covered = any(
            not any(term.ignores_more(own[term.column]) for term in unique.terms)
            for own in ({term.column: term for term in each.terms} for each in same)
        )
        if not is_covered:
            yield unique


def _list_unique(table: PortableTable, case: int) -> Iterator[_Unique]:
    if table.key:
        yield _Unique(
            [
                _read_term(table, IndexTerm(column=name, prefix=table.key_prefixes.get(name)), case)
                for name in table.key
            ]
        )
    names = {column.name for column in table.columns}
    for index in table.indexes:
        terms = [_name_column(term) for term in index.terms]
        if index.is_unique and names.issuperset(term.column for term in terms):
            condition = parse_condition(index.where) if index.where else frozenset()
            if condition is not None:
                yield _Unique([_read_term(table, term, case) for term in terms], condition)


def _name_column(term: IndexTerm) -> IndexTerm:
    """Return the lower case of a column as a column of which case is ignored."""
    match = _LOWER.fullmatch(term.expression)
    return IndexTerm(column=match[1], ignores_case=True) if match else term


def _read_term(table: PortableTable, term: IndexTerm, case: int) -> _Term:
    column = table.column(term.column)
    return _Term(
        column.name,
        case if term.ignores_case or column.ignores_case else 0,
        column.ignores_accents,
        column.ignores_spaces,
        term.prefix,
    )


def _compare_rows(
    rows: RowSource, table: TransferTable, unique: _Unique, schemas: PortableSchemas
) -> Iterator[CopyProblem]:
    terms = unique.terms
    digests = [array("Q") for _ in range(_PARTS)]
    for _, values in _read_values(rows, table, [], unique):
        digest = _digest(terms, values)
        digests[digest % _PARTS].append(digest)
    repeated = {first for part in digests for first, second in pairwise(sorted(part)) if first == second}
    if not repeated:
        return
    candidates = (
        (row, values)
        for row, values in _read_values(rows, table, table.key, unique)
        if _digest(terms, values) in repeated
    )
    first_keys, keys, count = dict[tuple[str | bytes, ...], Row](), list[Row](), 0
    for batch in split_batches(candidates, _BATCH):
        folded = [
            column if term.is_exact else schemas.fold_texts(table.name, term.column, column)
            for term, column in zip(terms, zip(*(values for _, values in batch), strict=True), strict=True)
        ]
        for (row, _), values in zip(batch, zip(*folded, strict=True), strict=True):
            key = format_key(table, row)
            if first_keys.setdefault(values, key) is not key:
                count += 1
                keys += [key] if len(keys) < MAX_KEYS and table.key else []
    if count:
        names = ", ".join(term.column for term in terms)
        reason = "equal to another row in a unique index of the destination"
        yield CopyProblem(table=table.name, column=names, reason=reason, rows=count, keys=keys)


def _read_values(
    rows: RowSource, table: TransferTable, key: Sequence[LineColumn], unique: _Unique
) -> Iterator[tuple[Sequence[bytes | None], tuple[str, ...]]]:
    """Yield the key of each row of an index, and what it compares of its values; rows with NULL are never equal."""
    known, terms = {column.name: column for column in table.columns}, unique.terms
    conditions, width = list(unique.condition), len(key) + len(terms)
    columns = [*key, *(known[term.column] for term in terms), *(known[each.column] for each in conditions)]
    with rows.stream_lines(table.name, columns) as batches:
        for batch in batches:
            for row in map(split_line, batch.lines):
                values = row[len(key) : width]
                if None not in values and all(
                    each.accepts(value) for each, value in zip(conditions, row[width:], strict=True)
                ):
                    yield (
                        row[: len(key)],
                        tuple(term.cut(value or b"") for term, value in zip(terms, values, strict=True)),
                    )


def _digest(terms: Sequence[_Term], values: Sequence[str]) -> int:
    folded = (
        term.fold(value).encode(errors="surrogateescape") for term, value in zip(terms, values, strict=True)
    )
    joined = b"\0".join(value.replace(b"\0", b"\0\0") for value in folded)
    return int.from_bytes(blake2b(joined, digest_size=_DIGEST_BYTES).digest(), "big")

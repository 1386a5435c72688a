"""The proof of an anonymised copy: originals are searched in the bytes of its dump.

A scan compares a dump with the grams of all originals at once, aligned words of four or eight bytes, because a search for each of
them would read the dump once per original. What contains a gram is compared byte by byte.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from dbctl import signals
from dbctl.engines.contract.database import Readable
from dbctl.extensions.copies.contract import Rewriter
from dbctl.extensions.copies.pseudonyms import SHAPES, apply_rule, has_documents, is_plain
from dbctl.extensions.copies.rules import ColumnRule, DatabaseRules
from dbctl.extensions.copies.section import Kind
from dbctl.model import Struct
from dbctl.services.app.evidence.personal import has_personal_type

#: Distinct originals that are searched at most; of more, a sample.
MAX_ORIGINALS = 50_000
#: Texts with fewer characters, and numbers with fewer digits, occur in any file by chance.
MIN_CHARACTERS, MIN_DIGITS = 4, 6
#: Bytes of one step of a scan.
BLOCK = 1 << 20
#: The formats of words by their bytes.
FORMATS: Mapping[int, Literal["Q", "I"]] = {8: "Q", 4: "I"}
#: An original is compared by its first bytes.
MAX_BYTES = 256
#: Kinds whose originals are not searched: copied ones, and times and numbers, which occur by chance.
UNSEARCHED: frozenset[Kind] = frozenset({"keep", "date", "number"})
_IPV4 = re.compile(rb"\d{1,3}(?:\.\d{1,3}){3}")
EMPTY_VALUES = (None, "", b"")
#: What pseudonyms have in common.
CONSTANTS = " ".join([*(f"{shape.prefix}{shape.suffix}" for shape in SHAPES.values()), "2001:db8:"])


class Proof(Struct, frozen=True, kw_only=True):
    """What was searched in the bytes of the copy of one database."""

    database: str
    searched: int  #: distinct originals
    is_sample: bool  #: whether there were more
    too_short: int  #: values that identify no one, because they are too short
    copied: int  #: originals that the copied columns, or the schema, contain as well
    copied_in: Mapping[str, int]  #: the number of these by column, and in ``the schema``
    bytes: int  #: of the dump
    hits: int  #: originals in the copy that no copied column contains


class CopiedHits(NamedTuple):
    """The hits that a column of the rewritten database contains."""

    copied: set[bytes]  #: in values, or parts of them, that a rule copies
    undecided: set[bytes]  #: in the keys and numbers of documents, about which no rule decides


class Originals:
    """Distinct originals: all of them up to a limit, then a sample, which does not depend on the order of rows."""

    def __init__(self, encode: Callable[[object], bytes]) -> None:
        self._encode, self._mask = encode, 0
        self.columns = dict[bytes, str]()  #: the column of each
        self.too_short = 0  #: values that are not searched

    def add(self, path: str, value: object) -> None:
        if is_too_short(value):
            self.too_short += 1
            return
        raw = self._encode(value)[:MAX_BYTES]
        if raw not in self.columns and not zlib.crc32(raw) & self._mask:
            self.columns[raw] = path
            while len(self.columns) > MAX_ORIGINALS:
                self._mask = 2 * self._mask + 1
                self.columns = {
                    known: column
                    for known, column in self.columns.items()
                    if not zlib.crc32(known) & self._mask
                }

    @property
    def is_sample(self) -> bool:
        """Whether there were more than the limit."""
        return self._mask > 0


def is_too_short(value: object) -> bool:
    """Return whether a value occurs in any file by chance."""
    if isinstance(value, bytes):
        return len(value) < MIN_CHARACTERS
    text = str(value)
    if len(text) >= 3 * MIN_DIGITS or len(text) < MIN_CHARACTERS:
        return len(text) < MIN_CHARACTERS
    return not any(map(str.isalpha, text)) and sum(map(str.isdigit, text)) < MIN_DIGITS


class Scanner:
    """Searches many byte strings in one pass."""

    def __init__(self, patterns: Iterable[bytes]) -> None:
        self._patterns = frozenset(patterns)
        self._longest = max(map(len, self._patterns), default=1)
        self._addresses = frozenset(filter(_IPV4.fullmatch, self._patterns))
        #: size of a gram, distance of the places that are compared, and by gram its offsets in patterns, with their lengths
        self._grams = [
            (size, step, dict[int, tuple[tuple[int, int], ...]]()) for size, step in ((8, 8), (4, 4), (4, 1))
        ]
        places = dict[tuple[int, int], tuple[tuple[int, int], ...]]()  # most grams share them
        for pattern in self._patterns:
            length = len(pattern)
            size, step, grams = next(entry for entry in self._grams if length >= entry[0] + entry[1] - 1)
            for offset in range(step):
                place = (offset, length)
                gram = int.from_bytes(pattern[offset : offset + size], sys.byteorder)
                known = grams.get(gram)
                if known is None:
                    grams[gram] = places.setdefault(place, (place,))
                elif place not in known:
                    grams[gram] = (*known, place)

    def find(self, blocks: Iterable[bytes]) -> set[bytes]:
        """Return the patterns that the joined blocks contain."""
        hits, rest = set[bytes](), bytearray()
        for block in blocks:
            rest += block
            if len(rest) >= BLOCK:
                signals.raise_if_interrupted()
                self._scan(bytes(rest), hits)
                del rest[: -self._longest]
        self._scan(bytes(rest), hits)
        return hits

    def _scan(self, data: bytes, hits: set[bytes]) -> None:
        for size, step, grams in self._grams:
            for shift in range(0, size, step) if grams else ():
                end = len(data) - max(0, len(data) - shift) % size
                with memoryview(data)[shift:end].cast(FORMATS[size]) as words:
                    if grams.keys().isdisjoint(words):
                        continue
                    for index, word in enumerate(words):
                        if word in grams:
                            place = shift + index * size
                            for offset, length in grams[word]:
                                start = place - offset
                                if start < 0 or (part := data[start : start + length]) not in self._patterns:
                                    continue
                                # the pseudonym 243.193.115.102 does not contain the address 43.193.115.102
                                if part in self._addresses and _is_in_digits(data, start, start + length):
                                    continue
                                hits.add(part)


def _is_in_digits(data: bytes, start: int, end: int) -> bool:
    return data[max(start - 1, 0) : start].isdigit() or data[end : end + 1].isdigit()


def read_file(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block


def collect_originals(db: Readable, rules: DatabaseRules, rewriter: Rewriter) -> Originals:
    """Return what the rules replace in a database, or remove from it."""
    originals = Originals(rewriter.encode)
    for table, rule in rules.tables.items():
        if rule == "empty":
            personal = filter(has_personal_type, db.tables()[table].columns.values())
            columns: Mapping[str, ColumnRule] = {column.name: ColumnRule(kind="null") for column in personal}
        else:
            columns = {
                name: item for name, item in rule.items() if not is_plain(item) or item.kind not in UNSEARCHED
            }
        names = list(dict.fromkeys([*columns, *(name for item in columns.values() for name in item.by)]))
        adders = [
            (
                names.index(name),
                [names.index(other) for other in item.by],
                _create_adder(originals, f"{table}.{name}", item),
            )
            for name, item in columns.items()
        ]
        for row in rewriter.read_rows(db, table, names) if names else ():
            for place, selectors, add in adders:
                if row[place] not in EMPTY_VALUES:
                    add(row[place], [row[selector] for selector in selectors])
    return originals


def _create_adder(
    originals: Originals, path: str, rule: ColumnRule
) -> Callable[[object, Sequence[object]], object]:
    """Return a function that adds the parts of a value that a rule replaces."""
    if is_plain(rule):
        return lambda value, _selectors: originals.add(path, value)

    def add(kind: Kind, value: object) -> object:
        if kind not in UNSEARCHED and value not in EMPTY_VALUES:
            originals.add(path, value)
        return value

    return lambda value, selectors: apply_rule(rule, add, value, selectors)


def find_copied(
    db: Readable, rules: DatabaseRules, hits: set[bytes], rewriter: Rewriter
) -> Iterator[tuple[str, CopiedHits]]:
    """Yield the columns of a rewritten database that contain hits although no rule replaces them there, and these."""
    scanner = Scanner(hits)
    for name, rule in rules.tables.items():  # not shadow tables, which have the words of others
        if rule == "empty":
            continue
        for column in db.tables()[name].columns:
            column_rule = rule.get(column, ColumnRule(kind="keep"))
            if is_plain(column_rule) and column_rule.kind != "keep":
                continue
            contents = partial(_read_copied, rewriter, db, name, column, column_rule)
            copied, undecided = scanner.find(map(rewriter.encode, contents())), set[bytes]()
            if copied and has_documents(column_rule) and column_rule.keys.get("*") != "keep":
                decided = scanner.find(map(rewriter.encode, contents(only_decided=True)))
                copied, undecided = decided, copied - decided
            if copied or undecided:
                yield f"{name}.{column}", CopiedHits(copied, undecided)


def _read_copied(
    rewriter: Rewriter, db: Readable, table: str, column: str, rule: ColumnRule, *, only_decided: bool = False
) -> Iterator[str | bytes]:
    """Yield the values of a column without what its rule replaces, separated; ``only_decided``: only the parts that the rule copies."""
    for value, *selectors in rewriter.read_rows(db, table, [column, *rule.by]):
        parts = list[object]()
        rest = apply_rule(rule, partial(_copy_part, parts), value, selectors)
        for text in parts if only_decided else [rest]:
            if text is not None:
                yield text if isinstance(text, bytes) else str(text)
                yield "\n"


def _copy_part(parts: list[object], kind: Kind, value: object) -> object:
    """Return a part that a rule copies, and add it to the others; nothing for one that it replaces."""
    if kind != "keep":
        return ""
    parts.append(value)
    return value


def count_by_column(originals: Originals, values: Iterable[bytes]) -> str:
    """Return the columns of some originals, with their numbers."""
    counts = Counter(originals.columns[value] for value in values)
    return ", ".join(f"{path} ({count})" for path, count in counts.most_common(10))

"""Compare the rows that dbctl changed with those that the app changed: equal, or different only as two runs of one action are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from os.path import commonprefix  # of texts, not of paths

from dbctl.config.secrets import MASK
from dbctl.engines.sql.codec import encode_json, identify, to_json
from dbctl.extensions.drafts.learning.scene import ChangedRow
from dbctl.model import Struct
from dbctl.profiles.codecs import find_time_form, read_text, read_time
from dbctl.profiles.passwords import read_prefix
from dbctl.services.app.secrets import SECRET_VALUES, is_secret_column

#: The times of one action differ from each other by less, with the app as with dbctl.
MOST_DIFFERENT = timedelta(minutes=5)
#: Characters of a random text; shorter ones could be words.
_FEWEST_RANDOM = 16
#: Characters of a value in a difference.
_LONGEST_SHOWN = 120
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_EARLIEST, _LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
#: Forms of random texts, the narrowest first.
_RANDOM_FORMS: Mapping[str, re.Pattern[str]] = {
    "uuid": re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE),
    "hex": re.compile(r"[0-9a-f]+"),
    "upper-case hex": re.compile(r"[0-9A-F]+"),
    "small letters and digits": re.compile(r"[0-9a-z]+"),
    "capital letters and digits": re.compile(r"[0-9A-Z]+"),
    "base64": re.compile(r"[0-9A-Za-z+/_-]+=*"),  # one without special characters is not distinguished
}
_CASE_CHANGE = re.compile(r"(?<=[a-z])[A-Z]|(?<=[A-Z])[a-z]")


class Difference(Struct, frozen=True, kw_only=True):
    """A difference between what the app wrote and what dbctl wrote; secrets are masked."""

    table: str  #: ``database.table``
    key: str  #: ``id=7``; of a new row the key that the app gave it
    column: str  #: empty: the whole row
    recorded: str | None  #: None: the app did not write it
    replayed: str | None  #: None: dbctl did not write it


class Comparison(Struct, frozen=True, kw_only=True):
    rows: int  #: compared rows of the recording
    ignored: int  #: its rows that do not belong to the action
    own: int  #: further rows that dbctl changed by its own rules
    differences: Sequence[Difference]


class Comparer:
    """Compares the rows of one recording with those of one replay."""

    def __init__(self, unrelated: Mapping[str, str], *, is_own: Callable[[ChangedRow], bool]) -> None:
        """Create a comparer.

        Args:
            unrelated: the tables (``table``) and columns (``table.column``) that do not belong to the action.
            is_own: returns whether dbctl changes a row by its own rules, although the app may not: its sign-ins, and its audit record.
        """
        self._unrelated, self._is_own = unrelated, is_own
        #: new keys of the recording, each with that of the same row of the replay
        self._keys = list[tuple[object, object]]()
        self._offsets = list[tuple[ChangedRow, str, object, object]]()
        self._ignored = self._own = 0

    def compare(self, recorded: Sequence[ChangedRow], replayed: Sequence[ChangedRow]) -> Comparison:
        left = [row for item in recorded if (row := self._drop_unrelated(item))]
        ignored = self._ignored
        right = [row for item in replayed if (row := self._drop_unrelated(item))]
        self._ignored = ignored
        pairs = [*self._pair(left, right)]
        for row, other in pairs:
            if row and other:
                self._learn_keys(row, other)
        differences = [difference for row, other in pairs for difference in self._compare_rows(row, other)]
        differences += self._compare_times()
        return Comparison(rows=len(left), ignored=self._ignored, own=self._own, differences=differences)

    def _drop_unrelated(self, row: ChangedRow) -> ChangedRow | None:
        """Return a row without unrelated columns; None: nothing else changed."""
        names = {
            name
            for name in {*(row.before or ()), *(row.after or ())}
            if f"{row.table}.{name}" in self._unrelated
        }
        is_changed = row.before is not None and row.after is not None
        if row.table in self._unrelated or (is_changed and names >= {*(row.after or ())}):
            self._ignored += 1
            return None
        before, after = (
            values and {name: value for name, value in values.items() if name not in names}
            for values in row[3:]
        )
        return row._replace(before=before, after=after)

    # Pairs of rows ---------------------------------------------------------------------------------------------------

    def _pair(
        self, recorded: Sequence[ChangedRow], replayed: Sequence[ChangedRow]
    ) -> Iterator[tuple[ChangedRow | None, ChangedRow | None]]:
        """Yield the rows of both sides that belong together, and each row without a counterpart."""
        others = [*replayed]
        for row in recorded:
            candidates = [other for other in others if _kind(other) == _kind(row)]
            if row.before is not None:
                candidates = [other for other in candidates if _identity(other) == _identity(row)]
            counterpart = max(candidates, key=lambda other: self._count_alike(row, other), default=None)
            if counterpart:
                others.remove(counterpart)
            yield row, counterpart
        for other in others:
            if self._is_own(other):
                self._own += 1
            else:
                yield None, other

    def _count_alike(self, row: ChangedRow, other: ChangedRow) -> int:
        after, others = row.after or {}, other.after or {}
        return sum(
            2 if _same(value, others.get(name)) else self._is_alike(value, others.get(name))
            for name, value in after.items()
        )

    def _learn_keys(self, row: ChangedRow, other: ChangedRow) -> None:
        """Map the key of a new row to the key that the replay gave it, if both were assigned or are random."""
        if row.before is not None or len(row.key) != 1:
            return
        (value,), (new,) = row.key.values(), other.key.values()
        if _same(value, new):
            return
        is_counted = isinstance(value, int) and isinstance(new, int)  # by the database
        if is_counted or self._is_random(value, new):
            self._keys.append((value, new))

    # Values ----------------------------------------------------------------------------------------------------------

    def _compare_rows(self, row: ChangedRow | None, other: ChangedRow | None) -> Iterator[Difference]:
        some = row or other
        assert some  # noqa: S101 - a pair has at least one row
        if row is None or other is None:
            shown = [None if each is None else _describe(each) for each in (row, other)]
            yield self._create(some, "", shown[0], shown[1])
            return
        for name in dict.fromkeys([*(row.after or ()), *(other.after or ())]):
            sides = [each.after is not None and name in each.after for each in (row, other)]
            values = [(each.after or {}).get(name) for each in (row, other)]
            if all(sides) and self._agree(row, name, values[0], values[1]):
                continue
            shown = [
                _show(row.table, name, value) if has else None
                for has, value in zip(sides, values, strict=True)
            ]
            yield self._create(row, name, shown[0], shown[1])

    def _agree(self, row: ChangedRow, column: str, value: object, other: object) -> bool:
        """Whether two values of a column are equal, or differ only as those of two runs."""
        if _same(value, other) or self._is_mapped(value, other):
            return True
        form = _find_time_form(value)
        if form and form == _find_time_form(other):
            self._offsets.append((row, column, value, other))
            return True
        return (
            self._is_hash(value, other)
            or self._is_random(value, other)
            or self._agree_in_json(row, column, value, other)
        )

    def _is_alike(self, value: object, other: object) -> bool:
        form = _find_time_form(value)
        return (
            bool(form and form == _find_time_form(other))
            or self._is_hash(value, other)
            or self._is_random(value, other)
        )

    def _is_mapped(self, value: object, other: object) -> bool:
        """Whether one value is, or contains, the key of a new row, and the other one that of the replay."""
        for old, new in self._keys:
            if _same(old, value) and _same(new, other):
                return True
            # digits are a key only as a whole number
            pattern = rf"(?<![0-9A-Za-z]){re.escape(str(old))}(?![0-9A-Za-z])"
            if isinstance(value, str) and str(new).join(re.split(pattern, value)) == other:
                return True
        return False

    @staticmethod
    def _is_hash(value: object, other: object) -> bool:
        """Whether both are hashes of passwords of one format and cost."""
        if not isinstance(value, str | bytes) or not isinstance(other, str | bytes):
            return False
        prefix = read_prefix(read_text(value))
        return bool(prefix) and prefix == read_prefix(read_text(other))

    @staticmethod
    def _is_random(value: object, other: object) -> bool:
        """Whether both are random values of one form, after the same beginning."""
        if isinstance(value, bytes) and isinstance(other, bytes):
            return len(value) == len(other) >= _FEWEST_RANDOM
        if not isinstance(value, str) or not isinstance(other, str) or len(value) != len(other):
            return False
        begin = re.match(r"(.*[^0-9A-Za-z])?", commonprefix([value, other]), re.DOTALL)  # noqa: RUF071 - texts, no paths
        prefix = len(begin[0]) if begin else 0  # such as ``token_``
        forms = [(_find_random_form(text), _find_random_form(text[prefix:])) for text in (value, other)]
        return any(form and form == other_form for form, other_form in zip(*forms, strict=True))

    def _agree_in_json(self, row: ChangedRow, column: str, value: object, other: object) -> bool:
        """Whether both are documents in JSON with the same members, whose values agree."""
        documents = [_parse(each) for each in (value, other)]
        return all(document is not None for document in documents) and self._agree_in_document(
            row, column, *documents
        )

    def _agree_in_document(self, row: ChangedRow, column: str, value: object, other: object) -> bool:
        if isinstance(value, dict) and isinstance(other, dict):
            return value.keys() == other.keys() and all(
                self._agree_in_document(row, column, item, other[name]) for name, item in value.items()
            )
        if isinstance(value, list) and isinstance(other, list):
            return len(value) == len(other) and all(
                self._agree_in_document(row, column, *items) for items in zip(value, other, strict=True)
            )
        is_scalar = not isinstance(value, dict | list) and not isinstance(other, dict | list)
        return is_scalar and self._agree(row, column, value, other)

    def _compare_times(self) -> Iterator[Difference]:
        """Yield times whose distance from the others differs: the app wrote the time of the action, and another one, such as an end."""
        distances = [_read_time(value) - _read_time(other) for _, _, value, other in self._offsets]
        middle = sorted(distances)[(len(distances) - 1) // 2] if distances else timedelta()
        for (row, column, value, other), distance in zip(self._offsets, distances, strict=True):
            tolerance = timedelta(days=1) if _DAY.fullmatch(read_text(value)) else MOST_DIFFERENT
            if abs(distance - middle) > tolerance:
                yield self._create(
                    row, column, _show(row.table, column, value), _show(row.table, column, other)
                )

    @staticmethod
    def _create(row: ChangedRow, column: str, recorded: str | None, replayed: str | None) -> Difference:
        key = " ".join(f"{name}={_show(row.table, name, value)}" for name, value in row.key.items())
        return Difference(
            table=f"{row.database}.{row.table}", key=key, column=column, recorded=recorded, replayed=replayed
        )


def _kind(row: ChangedRow) -> tuple[object, ...]:
    return row.database, row.table, row.before is None, row.after is None


def _identity(row: ChangedRow) -> tuple[object, ...]:
    """Return what identifies a row that existed: its key, or all values of a row without one."""
    values = row.key or row.before or {}
    return tuple(sorted((name, *identify(value)) for name, value in values.items()))


def _same(value: object, other: object) -> bool:
    return identify(value) == identify(other)


def _read_time(stored: object) -> datetime:
    return read_time(stored if not isinstance(stored, bytes) else read_text(stored)) or _EARLIEST


def _find_time_form(stored: object) -> str | None:
    """Return the form of a time in this century; None: it is none."""
    if isinstance(stored, bool) or not isinstance(stored, str | int | float | bytes):
        return None
    text = read_text(stored)
    form = "day" if _DAY.fullmatch(text) else find_time_form(stored)
    time = read_time(int(text) if text.isdecimal() else text) if form else None
    return form if time and _EARLIEST < time < _LATEST else None


def _find_random_form(text: str) -> str | None:
    """Return the form of a text of random characters; None: it may be words or a number."""
    is_mixed = any(map(str.isdigit, text)) or len(_CASE_CHANGE.findall(text)) > len(text) // 4
    if len(text) < _FEWEST_RANDOM or not is_mixed or not any(map(str.isalpha, text)):
        return None
    return next((name for name, pattern in _RANDOM_FORMS.items() if pattern.fullmatch(text)), None)


def _parse(value: object) -> object:
    if not isinstance(value, str) or not value.startswith(("{", "[")):
        return None
    try:
        return json.loads(value)
    except ValueError:
        return None


def _show(table: str, column: str, value: object) -> str:
    text = encode_json(to_json(value))
    if value is not None and (is_secret_column(table, column) or re.search(SECRET_VALUES, read_text(value))):
        return MASK
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}… ({len(text):,} characters)"


def _describe(row: ChangedRow) -> str:
    """Return what happened to a row that only one side has."""
    if row.after is None:
        return "deleted"
    values = " ".join(f"{name}={_show(row.table, name, value)}" for name, value in row.after.items())
    return f"{'added' if row.before is None else 'changed'} {values}"

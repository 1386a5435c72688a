"""PHP's serialization without objects and references; the lengths of texts are in bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from math import isfinite

MAX_DEPTH = 64


def load_php(text: str) -> object:
    """Return a serialized value; arrays are lists, or maps in their order, whose keys are text.

    Raises:
        ValueError: a length or a number is wrong, a key is a duplicate, or the value contains an object or a reference.
    """
    return _Reader(text).read()


def load_flags(text: str) -> dict[str, bool]:
    """Return a serialized map from text to booleans, such as ``a:1:{s:5:"admin";b:1;}``.

    Raises:
        ValueError: it is another value; see ``load_php``.
    """
    flags = load_php(text)
    if flags == []:
        return {}
    if not isinstance(flags, dict) or not all(isinstance(flag, bool) for flag in flags.values()):
        raise ValueError("it is not a map from text to booleans")
    return flags


class _Reader:
    """Reads one serialized value; the lengths of texts are in bytes."""

    def __init__(self, text: str) -> None:
        self._data, self._position = text.encode("utf-8", "surrogateescape"), 0

    def read(self) -> object:
        value = self._value(0)
        if self._position != len(self._data):
            raise ValueError("text follows the serialized value")
        return value

    def _value(self, depth: int) -> object:
        if depth > MAX_DEPTH:
            raise ValueError("it is nested too deeply")
        kind, self._position = self._data[self._position : self._position + 2], self._position + 2
        reader = self._READERS.get(kind)
        if reader is None:
            raise ValueError("it contains an object, a reference or an invalid length")
        return reader(self, depth)

    def _until(self, mark: bytes) -> str:
        end = self._data.find(mark, self._position)
        text = self._data[self._position : end].decode("ascii", "replace") if end >= 0 else "?"
        self._position = end + len(mark)
        return text

    def _integer(self, _depth: int = 0) -> int:
        return self._number(self._until(b";"))

    @staticmethod
    def _number(text: str) -> int:
        if not re.fullmatch("-?[0-9]{1,19}", text):
            raise ValueError("a number is invalid")
        return int(text)

    def _boolean(self, _depth: int) -> bool:
        return {"0": False, "1": True}[self._checked(self._until(b";"), "[01]")]

    def _float(self, _depth: int) -> float:
        return _parse_float(self._until(b";"))

    def _null(self, _depth: int) -> None:
        return None

    def _text(self, _depth: int) -> str:
        length = self._number(self._checked(self._until(b':"'), "[0-9]{1,9}"))
        raw, self._position = self._data[self._position : self._position + length], self._position + length
        if len(raw) != length or self._data[self._position : self._position + 2] != b'";':
            raise ValueError("the length of a text is wrong")
        self._position += 2
        return raw.decode("utf-8", "surrogateescape")

    def _array(self, depth: int) -> object:
        count = self._number(self._checked(self._until(b":{"), "[0-9]{1,9}"))
        entries: dict[object, object] = {}
        for _ in range(count):
            key = self._value(depth + 1)
            if not isinstance(key, int | str) or isinstance(key, bool):
                raise ValueError("a key is neither a number nor text")  # noqa: TRY004 - an invalid text
            entries[key] = self._value(depth + 1)
        if self._data[self._position : self._position + 1] != b"}" or len(entries) != count:
            raise ValueError("the number of entries is wrong")
        self._position += 1
        is_list = list(entries) == list(range(count))
        return list(entries.values()) if is_list else {str(key): item for key, item in entries.items()}

    @staticmethod
    def _checked(text: str, pattern: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError("a length or a boolean is invalid")
        return text

    _READERS: Mapping[bytes, Callable[[_Reader, int], object]] = {
        b"i:": _integer, b"b:": _boolean, b"d:": _float, b"N;": _null, b"s:": _text, b"a:": _array,
    }  # fmt: skip


def dump_php(value: object) -> str:
    """Return the serialized text of a value as JSON has it; the lengths of texts are in bytes."""
    if value is None:
        return "N;"
    if isinstance(value, bool):
        return f"b:{int(value)};"
    if isinstance(value, int):
        return f"i:{value};"
    if isinstance(value, float):
        return f"d:{int(value) if value.is_integer() and abs(value) < 1e15 else repr(value)};"  # noqa: PLR2004 - PHP's limit
    if isinstance(value, str):
        return f's:{len(value.encode("utf-8", "surrogateescape"))}:"{value}";'
    entries: Sequence[tuple[object, object]] = (
        list(value.items())
        if isinstance(value, dict)
        else list(enumerate(value))
        if isinstance(value, list)
        else ()
    )
    return (
        f"a:{len(entries)}:{{{''.join(dump_php(_php_key(key)) + dump_php(item) for key, item in entries)}}}"
    )


def _php_key(key: object) -> object:
    """Return a key as PHP stores it: the text of a decimal integer is an integer."""
    return int(key) if isinstance(key, str) and re.fullmatch("-?[1-9][0-9]{0,17}|0", key) else key


def _parse_float(text: str) -> float:
    if not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?(E[+-]?[0-9]+)?", text, re.IGNORECASE) or not isfinite(
        float(text)
    ):
        raise ValueError("a number is invalid")
    return float(text)

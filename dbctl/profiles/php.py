"""PHP's serialization: its tokens, and values without objects and references; the lengths of texts are in bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import NamedTuple

MAX_DEPTH = 64  #: of a value that is built or written; tokens have no limit
MAX_INTEGER = 2**63  #: the first integer that PHP lacks

#: A token up to its payload, whose group is the payload, its length, or the number of its entries.
_HEADS: Mapping[str, re.Pattern[bytes]] = {
    kind: re.compile(pattern)
    for kind, pattern in {
        "N": rb"N;",
        "b": rb"b:([01]);",
        "i": rb"i:(-?[0-9]{1,19});",
        "d": rb"d:(-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|-?INF|NAN);",
        "R": rb"R:([0-9]{1,19});",
        "r": rb"r:([0-9]{1,19});",
        "s": rb's:([0-9]{1,10}):"',
        "E": rb'E:([0-9]{1,10}):"',
        "a": rb"a:([0-9]{1,10}):\{",
        "O": rb'O:([0-9]{1,10}):"',
        "C": rb'C:([0-9]{1,10}):"',
    }.items()
}
#: After the name of a class: entries of an object, or bytes of a payload.
# after the name of a class: entries of an object, bytes of a payload
_COUNT = re.compile(rb":([0-9]{1,10}):\{")


class PhpToken(NamedTuple):
    """A token of a serialized value; ``start`` and ``end`` enclose its payload: the text, or the digits."""

    kind: str  #: as PHP writes it: ``s a O C i b d N R r E``; ``}`` ends an array or an object
    start: int
    end: int
    depth: int  #: of arrays and objects that contain it
    is_key: bool  #: whether it is a key, or the name of a property


def scan_php(data: bytes) -> Iterator[PhpToken]:
    """Yield the tokens of one serialized value.

    The payload of an object that serializes itself (``C``) is one token, because only its class defines its form.

    Raises:
        ValueError: a length, a number or a count of entries is wrong, or something follows the value.
    """
    return _Scanner(data).scan()


class _Scanner:
    """Reads tokens without recursion: values may be nested as deeply as PHP nests them."""

    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0
        #: keys and values that each open array or object still lacks
        self._missing: list[int] = []

    def scan(self) -> Iterator[PhpToken]:
        yield self._read_token()
        while self._missing:
            yield self._read_token() if self._missing[-1] else self._close()
        if self._position != len(self._data):
            raise ValueError("text follows the serialized value")

    def _read_token(self) -> PhpToken:
        depth = len(self._missing)
        is_key = depth > 0 and self._missing[-1] % 2 == 0
        if depth:
            self._missing[-1] -= 1
        kind = self._data[self._position : self._position + 1].decode("latin-1")
        head = _HEADS[kind].match(self._data, self._position) if kind in _HEADS else None
        if head is None:
            raise ValueError("a token is invalid")
        if is_key and kind not in ("i", "s"):
            raise ValueError("a key is neither a number nor text")
        self._position = head.end()
        start, end = head.span(1) if head.lastindex else (head.end(), head.end())
        if kind in "sEOC":
            start, end = self._read_payload(int(head[1]), b'"' if kind in "OC" else b'";')
        if kind in "OC":
            count = _COUNT.match(self._data, self._position)
            if count is None:
                raise ValueError("the name of a class has no number after it")
            self._position = count.end()
            if kind == "O":
                self._missing.append(2 * int(count[1]))
            else:
                start, end = self._read_payload(int(count[1]), b"}")
        elif kind == "a":
            self._missing.append(2 * int(head[1]))
        return PhpToken(kind=kind, start=start, end=end, depth=depth, is_key=is_key)

    def _read_payload(self, length: int, mark: bytes) -> tuple[int, int]:
        """Return start and end of what ends with a mark; continue after the mark."""
        start, end = self._position, self._position + length
        self._position = end + len(mark)
        if self._data[end : self._position] != mark:
            raise ValueError("the length of a text is wrong")
        return start, end

    def _close(self) -> PhpToken:
        start, end = self._read_payload(0, b"}")
        self._missing.pop()
        return PhpToken(kind="}", start=start, end=end, depth=len(self._missing), is_key=False)


def load_php(text: str) -> object:
    """Return a serialized value; arrays are lists, or maps in their order, whose keys are text.

    Raises:
        ValueError: a length or a number is wrong, a key is a duplicate, or the value contains an object or a reference.
    """
    data = text.encode("utf-8", "surrogateescape")
    tokens = scan_php(data)
    value = _build(data, tokens, next(tokens))
    for _ in tokens:  # something may follow the value
        pass
    return value


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


def _build(data: bytes, tokens: Iterator[PhpToken], token: PhpToken) -> object:
    payload = data[token.start : token.end].decode("utf-8", "surrogateescape")
    match token.kind:
        case "N":
            return None
        case "b":
            return payload == "1"
        case "i":
            return int(payload)
        case "d":
            number = float(payload)
            if not isfinite(number):
                raise ValueError("a number is not finite")
            return number
        case "s":
            return payload
        case "a":
            return _build_array(data, tokens, token)
    raise ValueError("it contains an object or a reference")


def _build_array(data: bytes, tokens: Iterator[PhpToken], array: PhpToken) -> object:
    if array.depth >= MAX_DEPTH:
        raise ValueError("it is nested too deeply")
    entries: dict[object, object] = {}
    for token in tokens:
        if token.kind == "}":
            break
        key = _build(data, tokens, token)
        if key in entries:
            raise ValueError("a key is a duplicate")
        entries[key] = _build(data, tokens, next(tokens))
    is_list = list(entries) == list(range(len(entries)))
    return list(entries.values()) if is_list else {str(key): item for key, item in entries.items()}


def dump_php(value: object, *, depth: int = 0) -> str:
    """Return the serialized text of a value as JSON has it, which ``depth`` arrays contain; the lengths of texts are in bytes.

    Raises:
        ValueError: PHP stores another number, or the value is nested more deeply than ``load_php`` reads.
    """
    if value is None:
        return "N;"
    if isinstance(value, bool):
        return f"b:{int(value)};"
    if isinstance(value, int):
        if not -MAX_INTEGER <= value < MAX_INTEGER:
            raise ValueError("PHP has no integers of more than 64 bits")
        return f"i:{value};"
    if isinstance(value, float):
        return f"d:{int(value) if value.is_integer() and abs(value) < 1e15 else repr(value)};"  # noqa: PLR2004 - PHP's limit
    if isinstance(value, str):
        return f's:{len(value.encode("utf-8", "surrogateescape"))}:"{value}";'
    if depth >= MAX_DEPTH:
        raise ValueError("it is nested too deeply")
    entries: Sequence[tuple[object, object]] = (
        list(value.items())
        if isinstance(value, dict)
        else list(enumerate(value))
        if isinstance(value, list)
        else ()
    )
    items = (dump_php(_php_key(key)) + dump_php(item, depth=depth + 1) for key, item in entries)
    return f"a:{len(entries)}:{{{''.join(items)}}}"


def _php_key(key: object) -> object:
    """Return a key as PHP stores it: the text of a decimal integer is an integer."""
    return int(key) if isinstance(key, str) and re.fullmatch("-?[1-9][0-9]{0,17}|0", key) else key

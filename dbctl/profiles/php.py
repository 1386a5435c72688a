"""PHP's serialization of maps from text to booleans; every other value is refused, and written texts are exact."""

from __future__ import annotations

from collections.abc import Mapping


def load_flags(text: str) -> dict[str, bool]:
    """Return the map of a serialized array such as ``a:1:{s:5:"admin";b:1;}``, in its order.

    Raises:
        ValueError: it is not an array, a length is wrong, a key is not text or a duplicate, or a value is not a boolean.
    """
    data = text.encode("utf-8", "surrogateescape")
    count, position = _read_number(data, 0, b"a:", b":{")
    flags: dict[str, bool] = {}
    for _ in range(count):
        length, position = _read_number(data, position, b"s:", b':"')
        key, position = data[position : position + length], position + length
        if len(key) != length or not data.startswith(b'";', position):
            raise ValueError("the length of a text is wrong")
        value, position = _read_number(data, position + 2, b"b:", b";")
        name = key.decode("utf-8", "surrogateescape")
        if value > 1 or name in flags:
            raise ValueError("a key is a duplicate, or its value is not a boolean")
        flags[name] = bool(value)
    if data[position:] != b"}":
        raise ValueError("the number of entries is wrong")
    return flags


def dump_flags(flags: Mapping[str, bool]) -> str:
    """Return the serialized array of a map."""
    entries = (
        f's:{len(name.encode("utf-8", "surrogateescape"))}:"{name}";b:{int(flag)};'
        for name, flag in flags.items()
    )
    return f"a:{len(flags)}:{{{''.join(entries)}}}"


def _read_number(data: bytes, start: int, prefix: bytes, suffix: bytes) -> tuple[int, int]:
    """Return the number between ``prefix`` and ``suffix`` at ``start``, and the position after them."""
    begin = start + len(prefix)
    end = data.find(suffix, begin)
    digits = data[begin:end] if end > 0 else b""
    if not data.startswith(prefix, start) or not (digits.isdigit() and len(digits) <= 9):  # noqa: PLR2004 - longer than any value
        raise ValueError(f"{prefix.decode()} with a number is missing at byte {start}")
    return int(digits), end + len(suffix)

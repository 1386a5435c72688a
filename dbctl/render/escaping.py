"""Escape text from databases: control and invisible characters must not affect a terminal."""

from __future__ import annotations

from functools import lru_cache

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escape(text: str) -> str:
    r"""Return text with controls, bidi overrides, zero-width characters and surrogates as ``\x1b``, ``\u202e``."""
    if text.isprintable():
        return text
    return "".join(map(_show_character, text))


@lru_cache(maxsize=4096)
def _show_character(character: str) -> str:
    return character if _is_harmless(character) else _escape_character(character)


def escape_lines(text: str) -> str:
    """Return text of several lines with escaped lines; tabs, and line feeds of Windows, are harmless there."""
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join("\t".join(map(escape, line.split("\t"))) for line in lines)


def _is_harmless(character: str) -> bool:
    if character.isprintable():
        return True
    from unicodedata import category

    return category(character) == "Zs"  # spaces of other widths, as in Japanese titles


def _escape_character(character: str) -> str:
    point = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    return (
        f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"  # noqa: PLR2004 - one, two or four bytes
    )

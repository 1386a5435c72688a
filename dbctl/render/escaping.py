"""Text from a database is data: whatever could steer a terminal or hide is shown instead of obeyed."""

from __future__ import annotations

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escape(text: str) -> str:
    r"""Show controls, bidi overrides, zero-width characters and surrogates as ``\x1b``, ``\u202e``."""
    if text.isprintable():
        return text
    return "".join(character if _harmless(character) else _shown(character) for character in text)


def _harmless(character: str) -> bool:
    if character.isprintable():
        return True
    from unicodedata import category

    return category(character) == "Zs"  # spaces of other widths: in many Japanese titles


def _shown(character: str) -> str:
    point = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    return (
        f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"  # noqa: PLR2004 - one, two or four bytes
    )

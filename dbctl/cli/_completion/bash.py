"""Words as bash writes them: decoding of quotes, and quoting of the rest of a word after an open quote."""

from __future__ import annotations

import re

_PART = re.compile(
    r"""
    '(?P<single>[^']*)(?P<single_end>'?)
    | "(?P<double>(?:\\.|[^"\\])*)(?P<double_end>"?)
    | \$'(?P<escaped>(?:\\.|[^'\\])*)(?P<escaped_end>'?)
    | \\(?P<character>.)
    | (?P<plain>[^'"\\$]+ | .)
    """,
    re.VERBOSE | re.DOTALL,
)
_QUOTES = {"single": "'", "double": '"', "escaped": "$'"}
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "e": "\x1b", "f": "\f", "v": "\v"}
_ESCAPE = re.compile(
    r"\\(?:x(?P<byte>[0-9a-fA-F]{1,2})|u(?P<short>[0-9a-fA-F]{1,4})|U(?P<long>[0-9a-fA-F]{1,8})|(?P<letter>.))",
    re.DOTALL,
)
#: The characters that bash takes literally outside of quotes; ``=`` and ``:`` end a word for readline, but not for bash.
_LITERAL = re.compile(r"[\w@%+=:,./-]", re.ASCII)


#: The characters that stand for bytes which are not UTF-8.
SURROGATES = ("\udc80", "\udcff")


def decode_word(text: str) -> tuple[str, str]:
    """Return the value of a word, or of its beginning, and the quote that is open at its end: empty, ``'``, ``"`` or ``$'``."""
    parts, quote = list[str](), ""
    for match in _PART.finditer(text):
        kind = str(match.lastgroup).removesuffix("_end")
        value = match[kind]
        if kind == "double":
            value = re.sub(r'\\(["\\$`])', r"\1", value)
        elif kind == "escaped":
            value = _ESCAPE.sub(_decode_escape, value)
        parts.append(value)
        quote = _QUOTES[kind] if kind in _QUOTES and not match[f"{kind}_end"] else ""
    return "".join(parts), quote


def _decode_escape(match: re.Match[str]) -> str:
    if match["byte"]:
        return bytes([int(match["byte"], 16)]).decode("utf-8", "surrogateescape")
    if code := match["short"] or match["long"]:
        return chr(min(int(code, 16), 0x10FFFF))
    return _LETTERS.get(match["letter"], match["letter"])


def quote_rest(text: str, quote: str) -> str:
    """Return the rest of a word as bash has to read it after the open ``quote``, without control characters."""
    if quote == "$'":
        return "".join(map(_escape, text))
    return "".join(_quote_character(character, quote) for character in text)


def _quote_character(character: str, quote: str) -> str:
    if not character.isprintable():
        return f"{quote}$'{_escape(character)}'{quote}"
    if quote == "'":
        return "'\\''" if character == "'" else character
    if quote == '"':
        if character == "!":  # within double quotes, bash expands it although it is escaped
            return '"\\!"'
        return f"\\{character}" if character in '"\\$`' else character
    return character if _LITERAL.fullmatch(character) or not character.isascii() else f"\\{character}"


def _escape(character: str) -> str:
    if character in "'\\":
        return f"\\{character}"
    if character.isprintable():
        return character
    if SURROGATES[0] <= character <= SURROGATES[1]:
        return f"\\x{character.encode('utf-8', 'surrogateescape').hex()}"
    code = ord(character)
    return f"\\x{code:02x}" if character.isascii() else f"\\U{code:08x}"

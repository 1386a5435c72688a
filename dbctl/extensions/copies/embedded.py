"""Texts inside serialized values: those of JSON and of PHP, also inside each other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from dbctl.profiles.php import PhpToken, scan_php

#: Gets a text and its path, and returns the text that replaces it.
TextRewrite = Callable[[str, str], str]

#: The name of the elements of lists, and of the entries of PHP's arrays whose keys are numbers, in a path.
ELEMENT = "*"
MAX_LEVELS = 32  #: of serialized texts inside each other

# Texts that no app writes by chance: with a wrong length they are damaged, not plain text.
_PHP_WITH_LENGTH = re.compile(r'\s*(?:a:[0-9]+:\{|[sOCE]:[0-9]+:")')
_PHP_SCALAR = re.compile(r"\s*(?:[ibdRr]:[^;\s]{1,40};|N;)\s*")
_JSON_START = re.compile(r'\s*[\[{"]')
_JSON_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*+)"|[\[\]{},:]', re.DOTALL)
# A character of a JSON text as it is written; two escapes are one character beyond U+FFFF.
_JSON_CHARACTER = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|[^\\]", re.DOTALL
)
_SHORT_ESCAPES: Mapping[str, str] = {
    '"': r"\"", "\\": r"\\", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t",
}  # fmt: skip


class UnreadableTextError(ValueError):
    """A text has the form of a serialized value, but a length in it is wrong, or only its class can read it."""


def refuse_unreadable(text: str, path: str) -> str:
    """Raise the error of a text that cannot be read.

    Raises:
        UnreadableTextError: always.
    """
    raise UnreadableTextError(f"{path or 'the value'}: {text[:20]!r} is serialized, but cannot be read")


def rewrite_texts(
    value: str,
    rewrite: TextRewrite,
    *,
    unreadable: TextRewrite = refuse_unreadable,
    rewrite_key: TextRewrite | None = None,
) -> str:
    """Return a value in which each text is replaced by what ``rewrite`` returns for it and its path.

    A value that is not serialized is one text, with the path ``""``. Texts are those of JSON and of PHP's serialization,
    and those in serialized texts inside them; keys, names of properties and classes, numbers and booleans are no texts.
    A path is the keys that lead to the text, ``email.value``; ``*`` replaces the numbers of lists and of PHP's arrays.

    Everything but the replaced texts remains as it is, byte for byte; a replaced text of JSON escapes the characters that
    it, or the rest of its value, escaped before. Lengths of PHP are those of the new texts, in bytes of UTF-8.

    Args:
        value: the value; bytes that are not UTF-8 are surrogates.
        rewrite: returns the text itself where nothing is replaced.
        unreadable: replaces ``rewrite`` for a text that is serialized by its form, but damaged, and for the payload of an
            object of PHP that serializes itself in its own form.
        rewrite_key: also replaces the keys of JSON's objects and of PHP's arrays, but no name of a property; None: keys remain.

    Raises:
        UnreadableTextError: by the default of ``unreadable``.
    """
    return _Rewriter(rewrite, unreadable, rewrite_key).rewrite(value, "", 0)


class _Rewriter:
    def __init__(
        self, rewrite: TextRewrite, unreadable: TextRewrite, rewrite_key: TextRewrite | None
    ) -> None:
        self._rewrite, self._unreadable, self._rewrite_key = rewrite, unreadable, rewrite_key

    def rewrite(self, text: str, path: str, level: int) -> str:
        if _PHP_WITH_LENGTH.match(text):
            result = self._rewrite_php(text, path, level)
            return self._unreadable(text, path) if result is None else result
        if _PHP_SCALAR.fullmatch(text):
            result = self._rewrite_php(text, path, level)
        elif _JSON_START.match(text):
            result = self._rewrite_json(text, path, level)
        else:
            result = None
        return self._rewrite(text, path) if result is None else result

    def _rewrite_php(self, text: str, path: str, level: int) -> str | None:
        """Return the rewritten text; None if it is not valid."""
        inner = text.strip()
        start = text.index(inner)
        try:
            data = inner.encode("utf-8", "surrogateescape")
            tokens = list(scan_php(data))
        except ValueError:
            return None
        if level >= MAX_LEVELS:
            return None
        pieces, position = [text[:start].encode()], 0
        for token, token_path in _find_php_texts(data, tokens, path):
            old = data[token.start : token.end].decode("utf-8", "surrogateescape")
            if token.is_key:
                new = self._rewrite_key(old, token_path) if self._rewrite_key else old
            elif token.kind == "C":  # its payload is serialized as well, or has the form of its class
                new = self._rewrite_payload(old, token_path, level + 1)
            else:
                new = self.rewrite(old, token_path, level + 1)
            if new == old:
                continue
            raw, length = new.encode("utf-8", "surrogateescape"), b"%d" % (token.end - token.start)
            before = data[position : token.start]  # ends with the length, a colon, and a mark
            pieces += [before[: -len(length) - 2], b"%d" % len(raw), before[-2:], raw]
            position = token.end
        pieces += [data[position:], text[start + len(inner) :].encode()]
        return b"".join(pieces).decode("utf-8", "surrogateescape")

    def _rewrite_payload(self, payload: str, path: str, level: int) -> str:
        is_php = _PHP_WITH_LENGTH.match(payload) or _PHP_SCALAR.fullmatch(payload)
        result = self._rewrite_php(payload, path, level) if is_php else None
        return self._unreadable(payload, path) if result is None else result

    def _rewrite_json(self, text: str, path: str, level: int) -> str | None:
        """Return the rewritten text; None if it is not valid."""
        import json

        try:
            json.loads(text, parse_int=len, parse_float=len)  # numbers may have any number of digits
        except ValueError:
            return None
        except RecursionError:
            return self._unreadable(text, path)
        if level >= MAX_LEVELS:
            return self._unreadable(text, path)
        pieces, position = [], 0
        for match, text_path, is_key in _find_json_texts(text, path):
            raw = match[1]
            old = str(json.loads(match[0]))
            if is_key:
                new = self._rewrite_key(old, text_path) if self._rewrite_key else old
            else:
                new = self.rewrite(old, text_path, level + 1)
            if new != old:
                pieces += [text[position : match.start(1)], _escape_json(new, raw, text)]
                position = match.end(1)
        return "".join([*pieces, text[position:]])


def _find_php_texts(data: bytes, tokens: list[PhpToken], path: str) -> Iterator[tuple[PhpToken, str]]:
    """Yield the tokens of texts, payloads and keys of arrays that are texts, with their paths."""
    paths = [path]  # of the value at each depth
    containers = dict[int, str]()  # the kind of the open array or object by the depth of its entries
    for token in tokens:
        if token.is_key:
            del paths[token.depth :]
            if token.kind == "i":
                name = ELEMENT
            else:  # a property that is not public: \0*\0name, \0Class\0name
                name = data[token.start : token.end].decode("utf-8", "surrogateescape").rpartition("\0")[2]
            paths.append(_join(paths[token.depth - 1], name))
            if token.kind == "s" and containers[token.depth] == "a":
                yield token, paths[token.depth]
        elif token.kind in ("a", "O"):
            containers[token.depth + 1] = token.kind
        elif token.kind in ("s", "C"):
            yield token, paths[token.depth]


def _find_json_texts(text: str, path: str) -> Iterator[tuple[re.Match[str], str, bool]]:
    """Yield the texts and keys of valid JSON, their paths, and whether each is a key."""
    import json

    parents: list[tuple[str, bool]] = []  # path of each open list or object, and whether it is an object
    current, is_key = path, False
    for match in _JSON_TOKEN.finditer(text):
        mark = match[0][0]
        if mark in "[{":
            parents.append((current, mark == "{"))
            is_key = mark == "{"
            current = _join(current, ELEMENT)
        elif mark in "]}":
            current, _ = parents.pop()
            is_key = False
        elif mark == ",":
            is_key = parents[-1][1]
        elif mark == ":":
            is_key = False
        elif is_key:
            current = _join(parents[-1][0], str(json.loads(match[0])))
            yield match, current, True
        else:
            yield match, current, False


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _escape_json(text: str, raw: str, document: str) -> str:
    """Return a text of JSON; ``raw`` is the text that it replaces, whose characters are written as before."""
    escapes = _read_escapes(raw)
    slash = r"\/" if r"\/" in document else "/"
    escapes.setdefault("/", slash)
    highest = "\x7e" if document.isascii() else "\U0010ffff"
    return "".join(escapes.get(character) or _escape_character(character, highest) for character in text)


def _read_escapes(raw: str) -> dict[str, str]:
    """Return each character of a text of JSON, and how the text writes it at first."""
    import json

    escapes: dict[str, str] = {}
    for written in _JSON_CHARACTER.findall(raw):
        character = json.loads(f'"{written}"') if written[0] == "\\" else written
        escapes.setdefault(character, written)
    return escapes


def _escape_character(character: str, highest: str) -> str:
    if character in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[character]
    if " " <= character <= highest:
        return character
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))

r"""Reject dumps that contain psql meta-commands.

psql executes a meta-command wherever a backslash occurs outside of quotes: ``\!`` starts a shell, ``\connect`` opens
another database. Only ``\restrict`` is allowed, which newer programs write and which disables all others. The scanner
follows the rules of psql's own scanner, and rejects text that is ambiguous under them.
"""

from __future__ import annotations

import re

#: Maximum bytes of a token: of a string, or the body of a function.
MAX_TOKEN_BYTES = 1 << 28
_TOKEN = re.compile(
    rb"""
      (?P<space> [\s]+ | --[^\n\r]*[\n\r] | \\(?:un)?restrict\ [A-Za-z0-9]+\n)
    | (?P<partial> --[^\n\r]*\Z | \$[A-Za-z0-9_\x80-\xff]*\Z | \\u?n?r?[restict]*(?:\ [A-Za-z0-9]*)?\Z)
    | (?P<comment> /\*)
    | (?P<two> [0-9][eE]')
    | (?P<escaped> [eE]')
    | (?P<plain> (?:[bBxXnN]|[uU]&)?')
    | (?P<name> (?:[uU]&)?")
    | (?P<dollar> \$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?\$)
    | (?P<word> [A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*)
    | (?P<sign> .)
    """,
    re.VERBOSE | re.DOTALL,
)
_DOUBLED = re.compile(rb"(?:[^']|'')*'(?!')")
_ESCAPED = re.compile(rb"(?:[^'\\]|\\.|'')*'(?!')", re.DOTALL)
_NAME = re.compile(rb'(?:[^"]|"")*"(?!")')
_COMMENT = re.compile(rb"/\*|\*/")
#: A backslash before a quote: whether the string ends depends on a setting that a dump may change.
_AMBIGUOUS = re.compile(rb"\\'")
#: The form in which pg_dump writes rows.
_COPY = re.compile(
    rb"COPY\s(?:[^\s.\"();']+|\"(?:[^\"]|\"\")*\")(?:\.(?:[^\s.\"();']+|\"(?:[^\"]|\"\")*\"))?\s*"
    rb"(?:\((?:[^()\"';]|\"(?:[^\"]|\"\")*\")*\)\s)?\s*FROM\sstdin;",
    re.IGNORECASE,
)
#: Invalid escapes in rows. pg_dump writes only the listed ones, and no psql meta-command with external effects begins
#: with one of them.
_BAD_ESCAPE = re.compile(rb"\\(?![bfnrtvN])")


class PsqlCommandError(ValueError):
    """The text contains a psql meta-command, or may contain one; the message describes it."""


class PsqlScanner:
    """Scanner of text, block by block; blocks may end anywhere."""

    trusts_strings = False  #: whether no statement changes what a backslash means in a string

    def __init__(self) -> None:
        self._text, self._position = b"", 0
        self._in_rows = False
        self.copies = 0  #: COPY statements that were read
        self._begin_statement()

    def _begin_statement(self) -> None:
        self._statement_text = b""  #: the beginning of the statement, long enough for any COPY
        self._words = list[bytes]()
        self._parentheses = self._bodies = 0

    def feed(self, block: bytes) -> None:
        """Scan the next block.

        Raises:
            PsqlCommandError: the text contains a meta-command, or may contain one.
        """
        self._text, self._position = self._text[self._position :] + block, 0
        while self._scan_rows() if self._in_rows else self._scan_token(last=False):
            pass
        if len(self._text) - self._position > MAX_TOKEN_BYTES:
            raise PsqlCommandError("a string without an end")

    def finish(self) -> None:
        """Scan the remaining text; raises as ``feed``."""
        self._text += b"\n"
        while not self._in_rows and self._position < len(self._text) and self._scan_token(last=True):
            pass

    def _scan_rows(self) -> bool:
        """Skip rows; return whether they have ended."""
        text = self._text[self._position :]
        begin, end = _find_end_of_rows(text)
        complete = begin if end else text.rfind(b"\n") + 1
        escaped = text[:complete].replace(b"\\\\", b"")
        if bad := _BAD_ESCAPE.search(escaped):
            raise PsqlCommandError(
                f"rows with an invalid escape ({_decode(escaped[bad.start() : bad.start() + 20])}"
            )
        self._position += end or complete
        self._in_rows = not end
        return bool(end)

    def _scan_token(self, *, last: bool) -> bool:
        """Scan one token; return whether it was complete."""
        match = _TOKEN.match(self._text, self._position)
        # A token at the end may continue in the next block; a sign may be the first of two.
        if match is None or (not last and len(self._text) - match.end() < 3):  # noqa: PLR2004 - the longest opening
            return False
        kind, token = match.lastgroup, match.group()
        end = match.end()
        if kind == "partial" and not last:
            return False
        if kind not in ("space", "word", "sign", "partial"):
            token_end = self._find_end(kind or "", token, match.end())
            if token_end < 0:
                if last:
                    raise PsqlCommandError("a string without an end")
                return False
            end = token_end
        elif kind == "word":
            self._scan_word(token.lower())
        elif kind == "sign" or (token.startswith(b"\\") and kind == "partial"):
            self._scan_sign(token[:1])
        if kind != "comment" and not (
            kind == "space" and (not self._statement_text or token.startswith(b"--"))
        ):
            self._statement_text += (
                self._text[self._position : end] if len(self._statement_text) < MAX_TOKEN_BYTES >> 12 else b""
            )
        self._position = end
        if token == b";" and not (self._parentheses or self._bodies):
            self._end_statement()
        return True

    def _find_end(self, kind: str, opening: bytes, begin: int) -> int:
        """Return where a token ends; -1 if the end is not in the text."""
        text = self._text
        if kind == "comment":
            return self._find_comment_end(begin)
        if kind == "dollar":
            position = text.find(opening, begin)
            return position + len(opening) if position >= 0 else -1
        if kind == "two":
            raise PsqlCommandError(f"{_decode(opening)}, which is ambiguous")
        pattern = {"escaped": _ESCAPED, "plain": _DOUBLED, "name": _NAME}[kind]
        match = pattern.match(text, begin)
        if match is None or match.end() >= len(text):  # it may be doubled in the next block
            return -1
        if kind == "plain" and not self.trusts_strings and _AMBIGUOUS.search(text, begin, match.end()):
            raise PsqlCommandError(
                "a string with a backslash before a quote, which is ambiguous (use a dump without --inserts)"
            )
        return match.end()

    def _find_comment_end(self, begin: int) -> int:
        depth = 1
        for match in _COMMENT.finditer(self._text, begin):
            depth += 1 if match.group() == b"/*" else -1
            if not depth:
                return match.end()
        return -1

    def _scan_word(self, word: bytes) -> None:
        if len(self._words) < 4:  # noqa: PLR2004 - create or replace function
            self._words.append(word)
        words = [previous for previous in self._words if previous not in (b"or", b"replace")]
        if (
            words[:1] == [b"create"]
            and words[1:2] in ([b"function"], [b"procedure"])
            and not self._parentheses
        ):
            # In the body of such a function, a semicolon does not end the statement.
            if word == b"begin":
                self._bodies += 1
            elif word == b"case":
                self._bodies += self._bodies > 0
            elif word == b"end":
                self._bodies -= self._bodies > 0

    def _scan_sign(self, sign: bytes) -> None:
        if sign == b"\\":
            line = self._text[self._position :].partition(b"\n")[0][:40]
            raise PsqlCommandError(f"a psql meta-command ({_decode(line)})")
        if sign == b"(":
            self._parentheses += 1
        elif sign == b")":
            self._parentheses -= self._parentheses > 0

    def _end_statement(self) -> None:
        if self._words[:1] == [b"copy"]:
            if not _COPY.fullmatch(self._statement_text):
                raise PsqlCommandError(
                    f"rows in a form that pg_dump does not write ({_decode(self._statement_text[:60])})"
                )
            # The rows begin with the next line.
            line_end = self._text.find(b"\n", self._position)
            if line_end < 0 or self._text[self._position : line_end].strip():
                raise PsqlCommandError("rows on the line of their COPY statement")
            self._position, self._in_rows = line_end + 1, True
            self.copies += 1
        self._begin_statement()


def _find_end_of_rows(text: bytes) -> tuple[int, int]:
    """Return the beginning and the end of the line that ends rows; 0 and 0 if it is missing."""
    for line in (b"\\.\n", b"\\.\r\n"):
        if text.startswith(line):
            return 0, len(line)
    matches = [
        (position + 1, position + 1 + len(line))
        for line in (b"\\.\n", b"\\.\r\n")
        if (position := text.find(b"\n" + line)) >= 0
    ]
    return min(matches, default=(0, 0))


def _decode(text: bytes) -> str:
    return text.decode(errors="replace").strip()

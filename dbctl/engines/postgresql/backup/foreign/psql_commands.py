r"""Whether the text of a dump says anything to psql itself, beside what it says to the server.

psql runs commands of its own wherever a backslash stands outside of quotes: ``\!`` starts a shell, ``\connect`` goes
elsewhere. (``\restrict``, which newer programs write, forbids it such commands, and is all that may stand there.) So text that somebody else wrote is read as psql reads it, by the rules of its own scanner, before psql gets
it. Where those rules leave two readings, it is refused.
"""

from __future__ import annotations

import re

#: Bytes of the longest token: of one string, or the body of one function.
LONGEST = 1 << 28
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
#: A backslash before a quote: whether that ends the string depends on a setting that a dump may change.
_UNCLEAR = re.compile(rb"\\'")
#: The one form in which pg_dump writes rows.
_COPY = re.compile(
    rb"COPY\s(?:[^\s.\"();']+|\"(?:[^\"]|\"\")*\")(?:\.(?:[^\s.\"();']+|\"(?:[^\"]|\"\")*\"))?\s*"
    rb"(?:\((?:[^()\"';]|\"(?:[^\"]|\"\")*\")*\)\s)?\s*FROM\sstdin;",
    re.IGNORECASE,
)
#: What a backslash may stand before in rows; nothing else is written there, and psql knows no command that begins so and
#: reaches out.
_BAD_ESCAPE = re.compile(rb"\\(?![bfnrtvN])")


class SpokenToPsqlError(ValueError):
    """The text says something to psql, or may; the text of the error says what."""


class Scanner:
    """Text that is read, block by block, however the blocks are cut."""

    def __init__(self) -> None:
        self._text, self._at = b"", 0
        self._in_rows = False
        self.copies = 0  #: statements whose rows have begun
        self._begin()

    def _begin(self) -> None:
        """Begin a statement."""
        self._said = b""  #: the statement so far, as far as it may be COPY
        self._words = list[bytes]()
        self._parentheses = self._bodies = 0

    def feed(self, block: bytes) -> None:
        """Read on.

        Raises:
            SpokenToPsqlError: as its name says.
        """
        self._text, self._at = self._text[self._at :] + block, 0
        while self._rows() if self._in_rows else self._token(last=False):
            pass
        if len(self._text) - self._at > LONGEST:
            raise SpokenToPsqlError("a string without an end")

    def finish(self) -> None:
        """Read what is left; raises as ``feed`` does."""
        self._text += b"\n"
        while not self._in_rows and self._at < len(self._text) and self._token(last=True):
            pass

    def _rows(self) -> bool:
        """Pass rows by; return whether they have ended."""
        text = self._text[self._at :]
        begin, end = _end_of_rows(text)
        whole = begin if end else text.rfind(b"\n") + 1
        escaped = text[:whole].replace(b"\\\\", b"")
        if bad := _BAD_ESCAPE.search(escaped):
            raise SpokenToPsqlError(f"rows that hold {_shown(escaped[bad.start() : bad.start() + 20])}")
        self._at += end or whole
        self._in_rows = not end
        return bool(end)

    def _token(self, *, last: bool) -> bool:
        """Read one token; return whether it was there as a whole."""
        found = _TOKEN.match(self._text, self._at)
        # What touches the end may go on in the next block; a sign may be the first of two.
        if found is None or (not last and len(self._text) - found.end() < 3):  # noqa: PLR2004 - the longest opening
            return False
        kind, told = found.lastgroup, found.group()
        end = found.end()
        if kind == "partial" and not last:
            return False
        if kind not in ("space", "word", "sign", "partial"):
            closed = self._closed(kind or "", told, found.end())
            if closed < 0:
                if last:
                    raise SpokenToPsqlError("a string without an end")
                return False
            end = closed
        elif kind == "word":
            self._word(told.lower())
        elif kind == "sign" or (told.startswith(b"\\") and kind == "partial"):
            self._sign(told[:1])
        if kind != "comment" and not (kind == "space" and (not self._said or told.startswith(b"--"))):
            self._said += self._text[self._at : end] if len(self._said) < LONGEST >> 12 else b""
        self._at = end
        if told == b";" and not (self._parentheses or self._bodies):
            self._end_statement()
        return True

    def _closed(self, kind: str, told: bytes, begin: int) -> int:
        """Return where what has been opened ends; -1: not in what is there."""
        text = self._text
        if kind == "comment":
            return self._comment_end(begin)
        if kind == "dollar":
            at = text.find(told, begin)
            return at + len(told) if at >= 0 else -1
        if kind == "two":
            raise SpokenToPsqlError(f"{_shown(told)}, which has two readings")
        pattern = {"escaped": _ESCAPED, "plain": _DOUBLED, "name": _NAME}[kind]
        found = pattern.match(text, begin)
        if found is None or found.end() >= len(text):  # it may be doubled in the next block
            return -1
        if kind == "plain" and _UNCLEAR.search(text, begin, found.end()):
            raise SpokenToPsqlError(
                "a string with a backslash before a quote, which has two readings (dumps without --inserts have none)"
            )
        return found.end()

    def _comment_end(self, begin: int) -> int:
        depth = 1
        for found in _COMMENT.finditer(self._text, begin):
            depth += 1 if found.group() == b"/*" else -1
            if not depth:
                return found.end()
        return -1

    def _word(self, word: bytes) -> None:
        if len(self._words) < 4:  # noqa: PLR2004 - create or replace function
            self._words.append(word)
        words = [one for one in self._words if one not in (b"or", b"replace")]
        if (
            words[:1] == [b"create"]
            and words[1:2] in ([b"function"], [b"procedure"])
            and not self._parentheses
        ):
            # Inside the body of such a function a semicolon ends nothing.
            if word == b"begin":
                self._bodies += 1
            elif word == b"case":
                self._bodies += self._bodies > 0
            elif word == b"end":
                self._bodies -= self._bodies > 0

    def _sign(self, sign: bytes) -> None:
        if sign == b"\\":
            line = self._text[self._at :].partition(b"\n")[0][:40]
            raise SpokenToPsqlError(f"a command for psql ({_shown(line)})")
        if sign == b"(":
            self._parentheses += 1
        elif sign == b")":
            self._parentheses -= self._parentheses > 0

    def _end_statement(self) -> None:
        if self._words[:1] == [b"copy"]:
            if not _COPY.fullmatch(self._said):
                raise SpokenToPsqlError(f"rows in another form than pg_dump's ({_shown(self._said[:60])})")
            # The rows begin with the next line.
            rest = self._text.find(b"\n", self._at)
            if rest < 0 or self._text[self._at : rest].strip():
                raise SpokenToPsqlError("rows that begin on the line of their COPY")
            self._at, self._in_rows = rest + 1, True
            self.copies += 1
        self._begin()


def _end_of_rows(text: bytes) -> tuple[int, int]:
    """Return where the line that ends rows begins, and what follows it; 0 and 0: it is not there."""
    for line in (b"\\.\n", b"\\.\r\n"):
        if text.startswith(line):
            return 0, len(line)
    found = [
        (at + 1, at + 1 + len(line))
        for line in (b"\\.\n", b"\\.\r\n")
        if (at := text.find(b"\n" + line)) >= 0
    ]
    return min(found, default=(0, 0))


def _shown(text: bytes) -> str:
    return text.decode(errors="replace").strip()

"""The text of a dump that dbctl did not make, on its way to psql: looked through, and without owners and grants."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from dbctl.engines.postgresql.dumped import unless_there
from dbctl.engines.postgresql.spoken import Scanner, SpokenToPsqlError
from dbctl.errors import DumpOverreachesError

_NAME = rb'(?:[A-Za-z_\x80-\xff][\w$\x80-\xff]*|"(?:[^"]|"")*")'
#: What names roles of another server, or what a scratch role may not say and need not: the live database decides.
_LEFT_OUT = re.compile(
    rb"ALTER\s.*\sOWNER\s+TO\s+" + _NAME + rb"\s*;"
    rb"|(?:GRANT|REVOKE)\s.*"
    rb"|ALTER\s+DEFAULT\s+PRIVILEGES\s.*"
    rb"|(?:SET|RESET)\s+SESSION\s+AUTHORIZATION\b.*"
    rb"|(?:CREATE|ALTER)\s+SUBSCRIPTION\s.*"
    rb"|COMMENT\s+ON\s+EXTENSION\s.*"
    rb"|COMMENT\s+ON\s+SCHEMA\s+public\s.*"
    rb"|SET\s+default_tablespace\s*=\s*[^'\s].*",
    re.IGNORECASE | re.DOTALL,
)
_SCHEMA = re.compile(rb"CREATE\s+SCHEMA\s+(" + _NAME + rb")\s*;", re.IGNORECASE)


class _Statements(Scanner):
    """A scanner that gives the text out again, statement by statement, once it was read."""

    def __init__(self) -> None:
        self._held, self._ended = list[bytes](), b""
        self.out = list[bytes]()
        super().__init__()

    def _rows(self) -> bool:
        begin = self._at
        text, ended = self._text, super()._rows()
        self.out.append(text[begin : self._at])
        return ended

    def _token(self, *, last: bool) -> bool:
        begin, self._ended = self._at, b""
        if not super()._token(last=last):
            return False
        piece = self._text[begin : self._at]
        if self._ended:
            self._give(b"".join([*self._held, piece]))
            self._held = []
        elif self._said:
            self._held.append(piece)
        else:  # a blank or a comment before a statement
            self.out.append(piece)
        return True

    def _end_statement(self) -> None:
        self._ended = self._said
        super()._end_statement()

    def _give(self, text: bytes) -> None:
        if schema := _SCHEMA.fullmatch(self._ended):
            self.out.append(unless_there(schema))
        elif not _LEFT_OUT.fullmatch(self._ended):
            self.out.append(text)

    def taken(self) -> bytes:
        """Return what has been read since the last call."""
        text = b"".join(self.out)
        self.out = []
        return text

    def rest(self) -> bytes:
        """Return what is left at the end."""
        self.finish()
        return b"".join([*self.out, *self._held])


def as_scratch_role(
    target: str, change: Callable[[Iterator[bytes]], Iterator[bytes]] = iter
) -> Callable[[Iterator[bytes]], Iterator[bytes]]:
    """Return what lets a dump through to psql, statement by statement, behind ``change``.

    No statement gets to psql before it was read to its end. What keeps a dump in its database is the role that runs
    it; here is left out only what an honest dump says of owners and grants, which that role may not say.

    Raises:
        DumpOverreachesError: it says something to psql itself.
    """

    def pass_on(blocks: Iterable[bytes]) -> Iterator[bytes]:
        statements = _Statements()
        try:
            for block in blocks:
                statements.feed(block)
                yield statements.taken()
            yield statements.rest()
        except SpokenToPsqlError as error:
            instead = "Nothing of it was run behind that place."
            raise DumpOverreachesError(target=target, reason=f"it holds {error}", instead=instead) from error

    return lambda blocks: change(pass_on(blocks))

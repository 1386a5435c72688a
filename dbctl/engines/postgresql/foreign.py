"""Filter the text of a foreign dump for psql: refuse meta-commands, and remove owners and grants."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from dbctl.engines.postgresql.dumped import unless_there
from dbctl.engines.postgresql.spoken import Scanner, SpokenToPsqlError
from dbctl.errors import DumpOverreachesError

_NAME = rb'(?:[A-Za-z_\x80-\xff][\w$\x80-\xff]*|"(?:[^"]|"")*")'
#: Statements with roles of another server, or that a scratch role may not execute: the live database has their values.
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
    """A scanner that returns the text again, statement by statement."""

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
        """Return the text that was read since the last call."""
        text = b"".join(self.out)
        self.out = []
        return text

    def rest(self) -> bytes:
        """Return the remaining text at the end."""
        self.finish()
        return b"".join([*self.out, *self._held])


def as_scratch_role(
    target: str, change: Callable[[Iterator[bytes]], Iterator[bytes]] = iter
) -> Callable[[Iterator[bytes]], Iterator[bytes]]:
    """Return a function that passes a dump to psql, statement by statement, after ``change``.

    psql receives no statement before its end was read. The role that runs the dump confines it to its database;
    this function only removes the owners and grants of a usual dump, which that role may not set.

    Raises:
        DumpOverreachesError: the dump contains a psql meta-command.
    """

    def pass_on(blocks: Iterable[bytes]) -> Iterator[bytes]:
        statements = _Statements()
        try:
            for block in blocks:
                statements.feed(block)
                yield statements.taken()
            yield statements.rest()
        except SpokenToPsqlError as error:
            instead = "Nothing after that place was run."
            raise DumpOverreachesError(target=target, reason=f"it holds {error}", instead=instead) from error

    return lambda blocks: change(pass_on(blocks))

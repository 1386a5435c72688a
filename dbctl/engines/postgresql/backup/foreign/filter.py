"""Filter the text of a foreign dump for psql: refuse meta-commands; remove owners, grants and what only superusers create."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from dbctl.engines.postgresql.backup.dump_scanner import unless_there
from dbctl.engines.postgresql.backup.foreign.psql_commands import Scanner, SpokenToPsqlError
from dbctl.errors import DumpOverreachesError

_NAME = rb'(?:[A-Za-z_\x80-\xff][\w$\x80-\xff]*|"(?:[^"]|"")*")'
#: Statements with roles of another server, or that a scratch role may not execute: the live database has their values.
_LEFT_OUT = re.compile(
    rb"ALTER\s.*\sOWNER\s+TO\s+" + _NAME + rb"\s*;"
    rb"|(?:GRANT|REVOKE)\s.*"
    rb"|ALTER\s+DEFAULT\s+PRIVILEGES\s.*"
    rb"|(?:SET|RESET)\s+SESSION\s+AUTHORIZATION\b.*"
    rb"|COMMENT\s+ON\s+EXTENSION\s.*"
    rb"|COMMENT\s+ON\s+SCHEMA\s+public\s.*"
    rb"|SET\s+default_tablespace\s*=\s*[^'\s].*",
    re.IGNORECASE | re.DOTALL,
)
#: Objects that only superusers create, and that no other object of a dump needs.
_CREATED = re.compile(
    rb"CREATE\s+(?:(?P<kind>EVENT\s+TRIGGER|SUBSCRIPTION)\s+(?P<name>" + _NAME + rb")\s.*"
    rb"|(?P<all>PUBLICATION)\s+(?P<publication>"
    + _NAME
    + rb")\s+FOR\s+(?:ALL\s+TABLES|TABLES\s+IN\s+SCHEMA)\b.*)",
    re.IGNORECASE | re.DOTALL,
)
#: Statements about such an object after its creation.
_ABOUT = re.compile(
    rb"(?:ALTER|COMMENT\s+ON|SECURITY\s+LABEL\s+(?:FOR\s+\S+\s+)?ON)\s+(?P<kind>EVENT\s+TRIGGER|SUBSCRIPTION|PUBLICATION)"
    rb"\s+(?P<name>" + _NAME + rb")\s.*",
    re.IGNORECASE | re.DOTALL,
)
_SCHEMA_PUBLISHED = re.compile(
    rb"ALTER\s+PUBLICATION\s+(" + _NAME + rb")\s+ADD\s+TABLES\s+IN\s+SCHEMA\s.*", re.IGNORECASE | re.DOTALL
)
PUBLISHED = "tables of schemas in publication"
#: The number of names in a message.
MOST_NAMES = 10
_SCHEMA = re.compile(rb"CREATE\s+SCHEMA\s+(" + _NAME + rb")\s*;", re.IGNORECASE)


class _Statements(Scanner):
    """A scanner that returns the text again, statement by statement."""

    def __init__(self) -> None:
        self._held, self._ended = list[bytes](), b""
        self._omitted = dict[str, dict[bytes, None]]()  #: names of objects by kind, in their order
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
        elif not (_LEFT_OUT.fullmatch(self._ended) or self._omits(self._ended)):
            self.out.append(text)

    def _omits(self, statement: bytes) -> bool:
        """Return whether a statement is left out: it creates what only a superuser may create, or is about such an object."""
        if created := _CREATED.fullmatch(statement):
            self._omit(_kind(created["kind"] or created["all"]), created["name"] or created["publication"])
            return True
        if published := _SCHEMA_PUBLISHED.fullmatch(statement):
            self._omit(PUBLISHED, published[1])
            return True
        about = _ABOUT.fullmatch(statement)
        return about is not None and about["name"] in self._omitted.get(_kind(about["kind"]), {})

    def _omit(self, kind: str, name: bytes) -> None:
        self._omitted.setdefault(kind, {})[name] = None

    def describe_omitted(self) -> list[str]:
        """Return a sentence for each kind of object that was left out."""
        sentences = []
        for kind, objects in self._omitted.items():
            names = [name.decode(errors="replace") for name in objects]
            more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
            sentences.append(
                f"left out of the dump, as only a superuser may create it: {kind} {', '.join(names[:MOST_NAMES])}{more}"
                " (create it by hand after the restore if the app needs it)"
            )
        return sentences

    def taken(self) -> bytes:
        """Return the text that was read since the last call."""
        text = b"".join(self.out)
        self.out = []
        return text

    def rest(self) -> bytes:
        """Return the remaining text at the end."""
        self.finish()
        return b"".join([*self.out, *self._held])


def _kind(word: bytes) -> str:
    return b" ".join(word.lower().split()).decode()


def as_scratch_role(
    target: str, remarks: list[str], change: Callable[[Iterator[bytes]], Iterator[bytes]] = iter
) -> Callable[[Iterator[bytes]], Iterator[bytes]]:
    """Return a function that passes a dump to psql, statement by statement, after ``change``.

    psql receives no statement before its end was read. The role that runs the dump confines it to its database;
    this function only removes the owners and grants of a usual dump, which that role may not set, and event triggers,
    subscriptions and publications of all tables, which it may not create: ``remarks`` gets a sentence about each kind.

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
            remarks.extend(statements.describe_omitted())
        except SpokenToPsqlError as error:
            instead = "Nothing after that place was run."
            raise DumpOverreachesError(target=target, reason=f"it holds {error}", instead=instead) from error

    return lambda blocks: change(pass_on(blocks))

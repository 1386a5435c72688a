"""Filter the text of a foreign dump for psql: refuse meta-commands; remove owners, grants and objects that only superusers can create."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from dbctl.engines.postgresql.backup.dump_scanner import create_schema_if_missing
from dbctl.engines.postgresql.backup.foreign.psql_commands import PsqlCommandError, PsqlScanner
from dbctl.errors import DumpOverreachesError

_NAME = rb'(?:[A-Za-z_\x80-\xff][\w$\x80-\xff]*|"(?:[^"]|"")*")'
#: Statements with roles of another server, or that a scratch role may not execute: the live database has their values.
_OMITTED = re.compile(
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
_CREATE = re.compile(
    rb"CREATE\s+(?:(?P<kind>EVENT\s+TRIGGER|SUBSCRIPTION)\s+(?P<name>" + _NAME + rb")\s.*"
    rb"|(?P<all>PUBLICATION)\s+(?P<publication>"
    + _NAME
    + rb")\s+FOR\s+(?:ALL\s+TABLES|TABLES\s+IN\s+SCHEMA)\b.*)",
    re.IGNORECASE | re.DOTALL,
)
#: Statements about such an object after its creation.
_FOLLOW_UP = re.compile(
    rb"(?:ALTER|COMMENT\s+ON|SECURITY\s+LABEL\s+(?:FOR\s+\S+\s+)?ON)\s+(?P<kind>EVENT\s+TRIGGER|SUBSCRIPTION|PUBLICATION)"
    rb"\s+(?P<name>" + _NAME + rb")\s.*",
    re.IGNORECASE | re.DOTALL,
)
_SCHEMA_PUBLISHED = re.compile(
    rb"ALTER\s+PUBLICATION\s+(" + _NAME + rb")\s+ADD\s+TABLES\s+IN\s+SCHEMA\s.*", re.IGNORECASE | re.DOTALL
)
PUBLISHED = "tables of schemas in publication"
#: The number of names in a message.
MAX_NAMES = 10
_SCHEMA = re.compile(rb"CREATE\s+SCHEMA\s+(" + _NAME + rb")\s*;", re.IGNORECASE)


class _StatementFilter(PsqlScanner):
    """Filter of the text of a dump, statement by statement."""

    def __init__(self) -> None:
        self._pending, self._finished_text = list[bytes](), b""
        self._omitted = dict[str, dict[bytes, None]]()  #: names of objects by kind, in their order
        self.output = list[bytes]()
        super().__init__()

    def _scan_rows(self) -> bool:
        begin = self._position
        text, ended = self._text, super()._scan_rows()
        self.output.append(text[begin : self._position])
        return ended

    def _scan_token(self, *, last: bool) -> bool:
        begin, self._finished_text = self._position, b""
        if not super()._scan_token(last=last):
            return False
        token = self._text[begin : self._position]
        if self._finished_text:
            self._emit(b"".join([*self._pending, token]))
            self._pending = []
        elif self._statement_text:
            self._pending.append(token)
        else:  # a blank or a comment before a statement
            self.output.append(token)
        return True

    def _end_statement(self) -> None:
        self._finished_text = self._statement_text
        super()._end_statement()

    def _emit(self, text: bytes) -> None:
        if schema := _SCHEMA.fullmatch(self._finished_text):
            self.output.append(create_schema_if_missing(schema))
        elif not (_OMITTED.fullmatch(self._finished_text) or self._is_omitted(self._finished_text)):
            self.output.append(text)

    def _is_omitted(self, statement: bytes) -> bool:
        """Return whether a statement is left out: it creates an object that only superusers create, or refers to one."""
        if created := _CREATE.fullmatch(statement):
            self._omit(
                _normalize_kind(created["kind"] or created["all"]), created["name"] or created["publication"]
            )
            return True
        if published := _SCHEMA_PUBLISHED.fullmatch(statement):
            self._omit(PUBLISHED, published[1])
            return True
        match = _FOLLOW_UP.fullmatch(statement)
        return match is not None and match["name"] in self._omitted.get(_normalize_kind(match["kind"]), {})

    def _omit(self, kind: str, name: bytes) -> None:
        self._omitted.setdefault(kind, {})[name] = None

    def describe_omitted(self) -> list[str]:
        """Return a sentence for each kind of object that was left out."""
        sentences = []
        for kind, objects in self._omitted.items():
            names = [name.decode(errors="replace") for name in objects]
            suffix = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
            sentences.append(
                f"left out of the dump, as only a superuser may create it: {kind} {', '.join(names[:MAX_NAMES])}{suffix}"
                " (create it by hand after the restore if the app needs it)"
            )
        return sentences

    def take_output(self) -> bytes:
        """Return the filtered text since the last call."""
        text = b"".join(self.output)
        self.output = []
        return text

    def take_remaining(self) -> bytes:
        """Return the filtered text that remains at the end."""
        self.finish()
        return b"".join([*self.output, *self._pending])


def _normalize_kind(word: bytes) -> str:
    return b" ".join(word.lower().split()).decode()


def make_statement_filter(
    target: str, remarks: list[str], change: Callable[[Iterator[bytes]], Iterator[bytes]] = iter
) -> Callable[[Iterator[bytes]], Iterator[bytes]]:
    """Return a function that filters a dump statement by statement, and then applies ``change``.

    psql receives a statement only after its end was read. The privileges of the scratch role confine the dump to its
    database; the filter only removes the owners and grants of a usual dump, which that role cannot set, and event
    triggers, subscriptions and publications of all tables, which it cannot create. ``remarks`` gets a sentence about each
    kind.

    Raises:
        DumpOverreachesError: the dump contains a psql meta-command.
    """

    def pass_on(blocks: Iterable[bytes]) -> Iterator[bytes]:
        statements = _StatementFilter()
        try:
            for block in blocks:
                statements.feed(block)
                yield statements.take_output()
            yield statements.take_remaining()
            remarks.extend(statements.describe_omitted())
        except PsqlCommandError as error:
            instead = "Nothing after it was executed."
            raise DumpOverreachesError(target=target, reason=f"it contains {error}", hint=instead) from error

    return lambda blocks: change(pass_on(blocks))

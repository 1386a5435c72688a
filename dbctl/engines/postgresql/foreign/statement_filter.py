"""Omit the statements of a foreign dump that a restore must not run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from dbctl.engines.postgresql.dump_programs import create_schema_if_missing
from dbctl.engines.postgresql.dump_statements import NAME, PsqlCommandError, StatementFilter
from dbctl.errors.restore import DumpOverreachesError

#: Statements with roles of another server, or that a scratch role may not execute: the live database has their values.
_OMITTED = re.compile(
    rb"ALTER\s.*\sOWNER\s+TO\s+" + NAME + rb"\s*;"
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
    rb"CREATE\s+(?:(?P<kind>EVENT\s+TRIGGER|SUBSCRIPTION)\s+(?P<name>" + NAME + rb")\s.*"
    rb"|(?P<all>PUBLICATION)\s+(?P<publication>"
    + NAME
    + rb")\s+FOR\s+(?:ALL\s+TABLES|TABLES\s+IN\s+SCHEMA)\b.*)",
    re.IGNORECASE | re.DOTALL,
)
#: Statements about such an object after its creation.
_FOLLOW_UP = re.compile(
    rb"(?:ALTER|COMMENT\s+ON|SECURITY\s+LABEL\s+(?:FOR\s+\S+\s+)?ON)\s+(?P<kind>EVENT\s+TRIGGER|SUBSCRIPTION|PUBLICATION)"
    rb"\s+(?P<name>" + NAME + rb")\s.*",
    re.IGNORECASE | re.DOTALL,
)
_SCHEMA_PUBLISHED = re.compile(
    rb"ALTER\s+PUBLICATION\s+(" + NAME + rb")\s+ADD\s+TABLES\s+IN\s+SCHEMA\s.*", re.IGNORECASE | re.DOTALL
)
PUBLISHED = "tables of schemas in publication"
#: The number of names in a message.
MAXNAMES = 10
_SCHEMA = re.compile(rb"CREATE\s+SCHEMA\s+(" + NAME + rb")\s*;", re.IGNORECASE)


class _ForeignFilter(StatementFilter):
    """Filter of a foreign dump."""

    def __init__(self) -> None:
        self._omitted = dict[str, dict[bytes, None]]()  #: names of objects by kind, in their order
        super().__init__()

    def change_statement(self, statement: bytes, text: bytes) -> bytes:
        if schema := _SCHEMA.fullmatch(statement):
            return create_schema_if_missing(schema)
        return b"" if _OMITTED.fullmatch(statement) or self._is_omitted(statement) else text

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

    def describe_changes(self) -> list[str]:
        sentences = []
        for kind, objects in self._omitted.items():
            names = [name.decode(errors="replace") for name in objects]
            suffix = f" and {len(names) - MAXNAMES} more" if len(names) > MAXNAMES else ""
            sentences.append(
                f"left out of the dump, as only a superuser may create it: {kind} {', '.join(names[:MAXNAMES])}{suffix}"
                " (create it by hand after the restore if the app needs it)"
            )
        return sentences


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
        try:
            yield from _ForeignFilter().filter(blocks, remarks)
        except PsqlCommandError as error:
            instead = "Nothing after it was executed."
            raise DumpOverreachesError(target=target, reason=f"it contains {error}", hint=instead) from error

    return lambda blocks: change(pass_on(blocks))

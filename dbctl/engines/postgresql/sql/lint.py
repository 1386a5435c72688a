"""What a statement may do to a PostgreSQL database with rows and users: which locks it takes, what it reads or writes anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

from dbctl.engines.contract import Hazard, Script
from dbctl.engines.parsing import Dialect, Judge, Statement, Token, Told, Words, default_of, lint
from dbctl.engines.postgresql.sql.lexer import tokens

#: Functions whose value is the same for every row of one statement, so that a default of them is stored once for all.
_ONCE = frozenset(
    {
        "now",
        "transaction_timestamp",
        "statement_timestamp",
        "timezone",
        "date_trunc",
        "lower",
        "upper",
        "coalesce",
    }
) | {"to_char", "current_setting", "to_timestamp", "make_interval", "jsonb_build_object", "json_build_object"}
#: What has brackets behind it and is no function.
_TYPES = frozenset(
    {"varchar", "char", "character", "varying", "numeric", "decimal", "bit", "time", "timestamp"}
) | {
    "timestamptz",
    "timetz",
    "interval",
    "current_timestamp",
    "localtimestamp",
    "current_time",
    "localtime",
    "cast",
    "array",
    "in",
    "float",
}
_SERIAL = ("serial", "bigserial", "smallserial", "serial4", "serial8", "serial2")
#: Words that begin a statement about the whole server, or another database of it.
_BEYOND = (
    *(
        (verb, kind)
        for verb in ("create", "alter", "drop")
        for kind in ("role", "user", "group", "database", "tablespace", "subscription")
    ),
    ("alter", "system"),
    ("reassign", "owned"),
    ("drop", "owned"),
)


class PostgreSQLJudge(Judge):
    """The rules of PostgreSQL."""

    dialect = Dialect(guardable=frozenset({"table", "index", "schema", "sequence", "extension"}))

    def tokens(self, sql: str) -> Iterator[Token]:
        return tokens(sql)

    def own(self, one: Statement) -> Iterator[Told]:
        yield from self._beyond(one)
        yield from self._indexes(one)
        yield from self._locks(one)
        yield from self._labels(one)
        if one.altered and not self.is_fresh(one.altered):
            yield from self._columns(one)
            for action in one.actions():
                yield from self._action(one.altered, action)

    def _indexes(self, one: Statement) -> Iterator[Told]:
        made, dropped = one.made, one.dropped
        if made and made.kind == "index":
            if not (made.concurrently or self.is_fresh(made.table)):
                yield (
                    "index-locks",
                    f"CREATE INDEX keeps everybody from writing {made.table} until it is made",
                )
            self._indexed.update(made.names)
        if dropped and dropped.kind == "index" and not dropped.concurrently:
            for name in dropped.names:
                if name not in self._indexed:
                    yield (
                        "index-locks",
                        f"DROP INDEX {name} keeps everybody from its table, and waits for all who read it",
                    )

    def _locks(self, one: Statement) -> Iterator[Told]:
        words = one.words()
        if words.take("lock"):
            words.take("table")
            words.take("only")
            yield "locks-table", f"LOCK keeps others from {words.name()} until the migration has ended"
        elif words.take("cluster"):
            yield (
                "locks-table",
                f"CLUSTER writes {words.name() or 'every table'} anew, and keeps everybody from it",
            )
        elif words.take("vacuum") and any(word.text == "full" for word in words.rest):
            yield "locks-table", "VACUUM FULL writes tables anew, and keeps everybody from them"
        elif words.take("reindex") and not any(word.text == "concurrently" for word in words.rest):
            yield "locks-table", "REINDEX keeps everybody from writing the table until it is done"
        elif words.take("refresh", "materialized", "view") and words.key() != "concurrently":
            yield "locks-table", f"REFRESH keeps everybody from reading {words.name()} until it is done"

    def _labels(self, one: Statement) -> Iterator[Told]:
        """Of a label that is added to an enum: nobody may use it before the transaction has ended."""
        for word in one.all:
            if word.kind == "text" and word.text in self._labels_added and not self.script.outside:
                yield (
                    "enum-value-early",
                    f"{word.text} cannot be used before the migration that adds it has ended",
                )
        words = one.words()
        if one.made and one.made.kind == "type":
            self._types.update(one.made.names)
        if words.take("alter", "type") and words.name() not in self._types and words.take("add", "value"):
            words.take("if", "not", "exists")
            if words and words.rest[0].kind == "text":
                self._labels_added.add(words.rest[0].text)

    def _columns(self, one: Statement) -> Iterator[Told]:
        for name, definition in one.added_columns():
            kind, default = definition.key(), default_of(definition)
            made = definition.has("generated")
            if kind in _SERIAL or made or (default and _differs(default)):
                yield (
                    "rewrites-table",
                    f"{one.altered}.{name} gets a value of its own in every row: the table is written anew",
                )
            filled = default and [word.text for word in default.rest] != ["null"]
            required = definition.has("not", "null") or definition.has("primary", "key")
            if required and not (filled or made or kind in _SERIAL):
                yield (
                    "not-null-without-default",
                    f"{one.altered}.{name} is NOT NULL and has no default: where there are rows it is refused",
                )

    def _action(self, table: str, action: Words) -> Iterator[Told]:
        if action.take("alter"):
            action.take("column")
            name = action.name()
            if action.take("type") or action.take("set", "data", "type"):
                yield (
                    "rewrites-table",
                    f"another type of {table}.{name} writes the table anew, unless the old values fit as they are",
                )
            elif action.take("set", "not", "null"):
                yield (
                    "not-null-scans",
                    f"SET NOT NULL reads all of {table}, and keeps everybody from it meanwhile",
                )
        elif action.take("add"):
            named = action.take("constraint") and action.name()
            kind = action.take_any("foreign", "check", "primary", "unique", "exclude")
            what = f"{named or kind.upper()} of {table}"
            if kind in ("foreign", "check") and not action.has("not", "valid"):
                yield "constraint-scans", f"{what} is compared with every row, and nobody writes meanwhile"
            if kind in ("primary", "unique", "exclude") and not action.has("using", "index"):
                yield "unique-locks", f"{what} makes an index, and keeps everybody from the table meanwhile"

    def _beyond(self, one: Statement) -> Iterator[Told]:
        texts = [word.text for word in one.all]
        if one.verb == "do":  # its body is a text to everybody but the server
            for word in one.all:
                if word.kind == "text":
                    texts += [
                        token.text.lower() for token in tokens(word.text.strip("$")) if token.kind == "word"
                    ]
        for begin in _BEYOND:
            at = [texts[at : at + 2] == [*begin] for at in range(len(texts) if one.verb == "do" else 1)]
            if any(at):
                yield "reaches-out", f"{' '.join(begin).upper()} changes more than this database"
        if one.verb in ("grant", "revoke") and "on" not in texts:
            yield "reaches-out", f"{one.verb.upper()} of a role changes more than this database"
        if one.verb == "copy" and one.main().has("program"):
            yield "reaches-out", "COPY … PROGRAM runs a program on the server"

    def judge(self, script: Script) -> list[Hazard]:
        self._labels_added, self._types, self._indexed = set[str](), set[str](), set[str]()
        return super().judge(script)


def _differs(default: Words) -> bool:
    """Whether a default calls a function that may give each row another value."""
    read = default.rest
    return any(
        word.kind in ("word", "name") and after.text == "(" and word.text not in _ONCE | _TYPES
        for word, after in pairwise(read)
    )


def judged(scripts: Iterable[Script]) -> Iterator[list[Hazard]]:
    """Yield what is hazardous in each, as ``Language.hazards`` says."""
    return lint.judged(PostgreSQLJudge(), scripts)

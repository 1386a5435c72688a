"""Integrity checks of a SQLite file."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from dbctl.engines.contract.checks import Checks, IndexDamage, IndexDifference, OrphanedRows
from dbctl.engines.sql.catalog import Row, ident
from dbctl.engines.sqlite.catalog import VIRTUAL
from dbctl.engines.sqlite.database import SQLitePart
from dbctl.engines.sqlite.errors import MISSING, SALVAGE
from dbctl.engines.sqlite.fulltext_index import TABLE_TEXTS, read_text_indexes
from dbctl.errors.connection import CorruptError, QueryFailedError
from dbctl.errors.usage import NotSupportedError
from dbctl.model import format_count

if TYPE_CHECKING:
    from dbctl.engines.sqlite.connection import SQLiteConnection

T = TypeVar("T")

#: SQLite's limit on the lines of integrity_check.
MAX_LINES = 100

#: The line before damaged pages, which contains only the schema.
HEADING = r"\*\*\* in database .+ \*\*\*"
#: The text of SQLITE_CORRUPT, which is the last line when SQLite cannot continue.
MALFORMED = "database disk image is malformed"
#: Lines about an index that differs from its table; the name may contain any text.
INDEX_DAMAGE = (
    r"(?s)(?:row .+? (?:missing from|values differ from)|wrong # of entries in|(?P<duplicate>non-unique entry in)"
    r"|rowid not at end-of-record for row \d+ of) index (?P<name>.+)"
)

#: Lines about rows that violate a constraint of their table.
VALUE_IN = r"(?s)(?:NULL|TEXT|NUMERIC) value in (?P<name>.+)\..+"
CHECK_IN = r"(?s)CHECK constraint failed in (?P<name>.+)"
#: The line about a table WITHOUT ROWID whose keys have another order.
ORDER_OF = r"(?s)row not in PRIMARY KEY order for (?P<name>.+)"

#: Lines about a full-text index, which SQLite checks itself since 3.44.
TEXT_INDEX_DAMAGE = r"fts5: |malformed inverted index for FTS[345] table "

#: Parentheses around the expression of a CHECK constraint, with those of its CREATE TABLE.
NESTING_OF_CHECKS = 2

ORPHANS_SQL = """select "table", parent, fkid, count(*), min(rowid) from pragma_foreign_key_check{}
group by "table", parent, fkid order by 1, 2, 3"""


def _build_difference(table: str, columns: Sequence[str], row: Row) -> IndexDifference:
    rowid, *values = row
    pairs = zip(columns, values[: len(columns)], values[len(columns) :], strict=True)
    differing = [pair for pair in pairs if pair[1] != pair[2]]
    return IndexDifference(
        table=table,
        row=f"rowid {rowid}",
        columns=[column for column, _, _ in differing],
        in_table=[value for _, value, _ in differing],
        in_index=[value for _, _, value in differing],
    )


def split_reports(reports: Iterable[str]) -> list[str]:
    """Return the lines of the rows of a check that describe damage."""
    lines = [
        line for text in reports for line in ([text] if re.match(INDEX_DAMAGE, text) else text.splitlines())
    ]
    return [line for line in lines if line != "ok" and not re.fullmatch(HEADING, line)]


def _return_null(*_: object) -> None:
    """Stand for a function that only the app defines."""


def _compare(text: str, other: str) -> int:
    """Stand for a collation that only the app defines."""
    return (text > other) - (text < other)


def run_with_stand_ins(connection: SQLiteConnection, run: Callable[[], T], undefined: dict[str, None]) -> T:
    """Run a statement with replacements of functions and collations that only the app defines; add their names to ``undefined``.

    What depends on them may be wrong: the caller omits it.
    """
    driver, removals = connection.driver, dict[str, Callable[[], None]]()
    try:
        while True:
            try:
                return run()
            except QueryFailedError as error:
                match = re.search(MISSING, str(error))
                if match is None or match[2] in removals:
                    raise
                kind, name = match.groups()
                if kind == "collation":
                    driver.create_collation(name, _compare)
                    removals[name] = partial(driver.create_collation, name, None)
                else:
                    driver.create_function(name, -1, _return_null, deterministic=True)
                    removals[name] = partial(driver.create_function, name, -1, None)
    finally:
        undefined.update(dict.fromkeys(removals))
        for remove in removals.values():
            remove()


def _concerns(line: str, names: Collection[str]) -> bool:
    """Return whether a line reports something about the values of tables or indexes, not about pages."""
    matches = (re.fullmatch(pattern, line) for pattern in (INDEX_DAMAGE, VALUE_IN, CHECK_IN, ORDER_OF))
    return any(match["name"] in names for match in matches if match)


def _calls(undefined: Collection[str], sql: str) -> bool:
    """Return whether a definition names one of the functions or collations."""
    names = "|".join(map(re.escape, undefined))
    return bool(names and re.search(rf"(?i)(?<!\w)({names})(?!\w)", sql))


def list_checks(definition: str) -> list[str]:
    """Return the expressions of the CHECK constraints of a CREATE TABLE, as it has them."""
    from dbctl.engines.sqlite.lint import LEXER

    if re.match(VIRTUAL, definition):
        return []
    checks, depth, start, previous = list[str](), 0, -1, ""
    for token in LEXER.read_significant(definition):
        if token.text == "(":
            depth += 1
            if depth == NESTING_OF_CHECKS and previous == "check":
                start = token.start + 1
        elif token.text == ")":
            if depth == NESTING_OF_CHECKS and start >= 0:
                checks.append(definition[start : token.start])
                start = -1
            depth -= 1
        previous = token.text.lower() if token.kind == "word" else ""
    return checks


class SQLiteChecks(SQLitePart, Checks):
    gives_advice = False
    damage_remedy = SALVAGE
    _unchecked: Sequence[str] = ()

    def find_damage(self, *, quick: bool = False, table: str = "") -> Sequence[str]:
        undefined, failures = dict[str, None](), list[str]()
        lines = self.find_file_damage(undefined, quick=quick, table=table)
        if lines:  # an app with its journal in memory writes into the file before it commits: look with locks
            self._connection.prepare_stream()
            lines = self.find_file_damage(undefined, quick=quick, table=table)
        # SQLite reads the CHECK constraints only of a file that it may write.
        if self._connection.read_only and not quick:
            lines += self._find_violations(undefined, failures, table)
        if undefined:
            failures.append(
                f"values that depend on functions and collations of the app are not checked: {', '.join(undefined)}"
            )
        self._unchecked = failures
        return lines

    def find_file_damage(
        self, undefined: dict[str, None], *, quick: bool = False, table: str = ""
    ) -> list[str]:
        """As ``find_damage``, without the CHECK constraints of a file that is opened to read; add what only the app defines to ``undefined``."""
        pragma = "quick_check" if quick else "integrity_check"
        if table:
            return self._read_damage(pragma, ident(self._catalog.require_table(table).name), undefined)
        lines = self._read_damage(pragma, str(MAX_LINES), undefined)
        if len(lines) < MAX_LINES:
            return lines
        # One damaged index fills the list; checking each table separately finds the others.
        for name in self._catalog.base_tables():
            lines += self._read_damage(pragma, ident(name), undefined)
        return list(dict.fromkeys(lines))

    def _read_damage(self, pragma: str, argument: str, undefined: dict[str, None]) -> list[str]:
        try:
            run = partial(self._connection.fetch, f"pragma {pragma}({argument})")
            reports = [str(row[0]) for row in run_with_stand_ins(self._connection, run, undefined)]
        except CorruptError as error:  # the check itself failed
            return [str(error.context["reason"])]
        damage = split_reports(reports)
        if undefined:
            callers = self._list_callers(undefined)
            damage = [line for line in damage if not _concerns(line, callers)]
        if any(line != MALFORMED and not re.match(INDEX_DAMAGE, line) for line in damage):
            return [line for line in damage if line != MALFORMED]
        return damage

    def _find_violations(self, undefined: dict[str, None], failures: list[str], table: str) -> Iterator[str]:
        """Yield the CHECK constraints that rows violate; add what only the app defines, and the tables without a result, to the others."""
        sql = "select name, sql from sqlite_master where type = 'table' and sql is not null and :table in ('', name)"
        try:
            definitions = self._connection.fetch(sql, {"table": table})
        except CorruptError:  # reported
            return
        for name, definition in definitions:
            if checks := list_checks(str(definition)):
                try:
                    yield from self._count_violations(str(name), str(definition), checks, undefined)
                except CorruptError:
                    continue
                except QueryFailedError as error:
                    reason = error.context["reason"]
                    failures.append(f"the CHECK constraints of {name} are not checked: {reason}")

    def _count_violations(
        self, table: str, definition: str, checks: Sequence[str], undefined: dict[str, None]
    ) -> Iterator[str]:
        sums = ", ".join(f"sum(not ({check}))" for check in checks)
        own = dict[str, None]()
        # An index may be damaged.
        run = partial(self._connection.fetch, f"select {sums} from {ident(table)} not indexed")
        (counts,) = run_with_stand_ins(self._connection, run, own)
        undefined.update(own)
        for check in checks:
            if _calls(own, check):  # a shorter one may be part of a name
                definition = definition.replace(check, "")
        if _calls(own, definition):  # of columns, on which each constraint may depend
            return
        for check, count in zip(checks, counts, strict=True):
            if count and not _calls(own, check):
                rows = format_count(cast("int", count), "row")
                yield f"CHECK constraint failed in {table}: {rows} without {' '.join(check.split())}"

    def list_unchecked(self) -> Sequence[str]:
        return self._unchecked

    def _list_callers(self, undefined: Collection[str]) -> Collection[str]:
        """Return the tables and indexes whose definitions name one of the functions or collations, and the indexes of these tables."""
        objects = self._connection.fetch(
            "select name, tbl_name, sql from sqlite_master where sql is not null"
        )
        callers = {str(name) for name, _, sql in objects if _calls(undefined, str(sql))}
        indexes = self._connection.fetch("select name, tbl_name from sqlite_master where type = 'index'")
        return callers | {str(name) for name, table in indexes if table in callers}

    def parse_index_damage(self, line: str) -> IndexDamage | None:
        match = re.fullmatch(INDEX_DAMAGE, line)
        return match and IndexDamage(index=match["name"], has_duplicates=match["duplicate"] is not None)

    def concerns_text_index(self, line: str, name: str = "") -> bool:
        named = rf'.*\btable (main\.|"){re.escape(name)}("|:|$)' if name else ""
        return all(re.match(pattern, line) for pattern in (TEXT_INDEX_DAMAGE, named))

    def concerns_values(self, line: str) -> bool:
        return any(re.fullmatch(pattern, line) for pattern in (VALUE_IN, CHECK_IN))

    def find_index_differences(self, index: str, limit: int) -> Sequence[IndexDifference]:
        rows = self._connection.fetch(
            "select tbl_name from sqlite_master where type = 'index' and name = :name", {"name": index}
        )
        keys = self._connection.fetch(f"pragma index_xinfo({ident(index)})")
        columns = [str(name) for _, position, name, *_, is_key in keys if is_key and position >= 0]  # type: ignore[operator]
        if not rows or not columns:  # an index with expressions only
            return ()
        table, names = str(rows[0][0]), ", ".join(map(ident, columns))
        differs = " or ".join(f"t.{ident(name)} is not e.{ident(name)}" for name in columns)
        selected = ", ".join(f"{side}.{ident(name)}" for side in "te" for name in columns)
        try:
            differing = self._connection.fetch(
                f"with entries as materialized (select rowid as row, {names} from {ident(table)} indexed by {ident(index)})"
                f" select e.row, {selected} from entries e join (select rowid as row, {names} from {ident(table)} not indexed) t"
                f" on t.row = e.row where {differs} limit {limit}",
                {},
            )
        except (CorruptError, QueryFailedError):  # damaged pages, a partial index, or WITHOUT ROWID
            return ()
        return [_build_difference(table, columns, row) for row in differing]

    def find_orphaned_rows(self, table: str = "") -> Sequence[OrphanedRows]:
        call = "(:table)" if table else ""
        parameters = {"table": self._catalog.require_table(table).name} if table else {}
        result, undefined = [], dict[str, None]()
        run = partial(self._connection.fetch, ORPHANS_SQL.format(call), parameters)
        rows = run_with_stand_ins(self._connection, run, undefined)
        # a row may refer to a text that only the app considers equal
        callers = {name.lower() for name in self._list_callers(undefined)} if undefined else set[str]()
        for child, parent, key, count, first_rowid in rows:
            if str(parent).lower() in callers:
                continue
            keys = self._connection.fetch(f"pragma foreign_key_list({ident(str(child))})")
            result.append(
                OrphanedRows(
                    table=str(child),
                    columns=[str(row[3]) for row in keys if row[0] == key],
                    referenced_table=str(parent),
                    count=cast("int", count),
                    example=None if first_rowid is None else f"rowid {first_rowid}",
                )
            )
        return result

    def find_checkable_orphans(self) -> Iterator[OrphanedRows]:
        try:
            yield from self.find_orphaned_rows()
        except QueryFailedError:  # SQLite checks no table if one cannot be checked
            for name in self._catalog.base_tables():
                with suppress(QueryFailedError):
                    yield from self.find_orphaned_rows(name)

    def count_lost_commits(self) -> int:
        from dbctl.engines.sqlite import files

        return files.count_lost_commits(Path(f"{self._connection.path}-wal"))

    def list_text_indexes(self) -> Sequence[str]:
        return [index.name for index in read_text_indexes(self._connection.fetch(TABLE_TEXTS))]

    def check_text_index(self, name: str) -> str:
        sql = "select name, sql from sqlite_master where name = :name"
        index = next(read_text_indexes(self._connection.fetch(sql, {"name": name})), None)
        if index is None:
            raise NotSupportedError(
                feature=f"checking {name}", subject=self._catalog.target, hint="It is not a full-text index."
            )
        table = ident(name)
        # sqlite-utils has no method for this check. Rank 1 also compares the index with its rows; FTS3 and FTS4 always do.
        alone = f"insert into {table} ({table}) values ('integrity-check')"
        with_rows = f"insert into {table} ({table}, rank) values ('integrity-check', 1)"
        if index.version != "5":
            return self._run_text_check(alone)
        try:
            return self._run_text_check(with_rows)
        except QueryFailedError:
            # its definition names a column that the table lacks, so the rows cannot be read
            if damage := self._run_text_check(alone):
                return damage
            raise

    def _run_text_check(self, statement: str) -> str:
        """Return the damage that a check of a full-text index finds; empty: none."""
        self._connection.run("begin immediate")
        try:
            self._connection.run(statement)
        except CorruptError as error:
            return str(error.context["reason"])
        finally:
            self._connection.run("rollback")
        return ""

"""Build the external index of a SQLite file, and compare it with the database."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dbctl import signals
from dbctl.engines.contract.external_index import ExternalIndexSpec, ExternalIndexState
from dbctl.engines.sql.catalog import Statement
from dbctl.engines.sqlite.external_index.definition import META, PLACES, SCHEMA_NAME, TEXTS
from dbctl.engines.sqlite.external_index.search import MIN_LENGTH, ExternalSearch
from dbctl.engines.sqlite.external_index.state import index_path
from dbctl.errors.connection import ChangedWhileReadError, ExternalIndexInvalidError
from dbctl.errors.usage import NotSupportedError
from dbctl.model import Struct

if TYPE_CHECKING:
    from dbctl.engines.contract.fulltext import IndexFault
    from dbctl.engines.sqlite.external_index.reader import SQLiteExternalReader

#: Number of rows that a new index must find before it replaces the old one.
VERIFIED_ROWS = 200
#: Coarsest resolution of file times in seconds, and seconds between two checks of the clock.
COARSE_SECONDS, RETRY_SECONDS = 2, 0.05


class _FaultQuery(Struct, frozen=True):
    """A query for faults of one kind; it returns a name of each faulty row."""

    kind: Literal["missing", "stale", "duplicate", "stray"]
    sql: str
    parameters: Mapping[str, object] = {}


class SQLiteExternalIndexes(ExternalSearch):
    """The part ``ExternalIndexes``."""

    def __init__(self, db: SQLiteExternalReader) -> None:
        super().__init__(db)
        self._count = db.count

    def external_index_path(self, folder: Path | None, name: str) -> Path:
        return index_path(self._connection.path, folder, name)

    def open_external_index(self, spec: ExternalIndexSpec, paths: Sequence[Path]) -> ExternalIndexState:
        return self._file.open(spec, paths)

    # Creation -------------------------------------------------------------------------------------------------

    def create_external_index(self, spec: ExternalIndexSpec, path: Path) -> ExternalIndexState:
        from dbctl.engines.sqlite.external_index import create

        self._connection.fetch("select 1")
        reason = self._file.define(spec).unsupported_reason() or self._file.unstable_reason()
        if reason:
            hint = "Nothing was created. Stop the app that writes the database, then run this again." * (
                not self._connection.is_unlocked
            )
            raise NotSupportedError(
                feature=f"a search index of {spec.table}",
                subject=f"{self._catalog.target}: {reason}",
                hint=hint,
            )
        with create.create_partial(path, self._catalog.target, timeout=self._connection.timeout) as new_path:
            create.seal(new_path, self._connection.path, self._fill_index(spec, new_path))
            state = self._file.inspect(spec, new_path)
            is_incomplete = state.state == "fresh" and (
                self.count_external(spec, ()) != self._count(spec.table)
                or self._find_faults([self._build_text_query(spec, VERIFIED_ROWS)])
            )
            self._file.detach()
            if state.state != "fresh" or is_incomplete:
                reason = state.reason or "it does not find every row"
                raise ExternalIndexInvalidError(target=self._catalog.target, path=path, reason=reason)
            create.install(new_path, path)
        return self._file.inspect(spec, path)

    def _fill_index(self, spec: ExternalIndexSpec, path: Path) -> int:
        """Fill an empty file; return the even second that marks it as complete, which every file system can store."""
        definition = self._file.define(spec)
        self._wait_for_distinct_mtime()
        initial_state, created_at = self._connection.opened_state, int(datetime.now(UTC).timestamp())
        metadata = {
            "definition": definition.describe(),
            "created_at": created_at,
            "sealed": created_at - created_at % 2,
            **self._file.read_database_state(),
        }
        self._file.attach(path, "mode=rw")
        try:
            self._connection.driver.set_authorizer(None)
            for pragma in (
                "query_only = 0",
                f"{SCHEMA_NAME}.journal_mode = off",
                f"{SCHEMA_NAME}.synchronous = off",
            ):
                self._connection.run(f"pragma {pragma}")
            self._connection.run("begin")
            for name, sql in definition.table_definitions().items():
                self._connection.run(sql.replace(f" TABLE {name}", f" TABLE {SCHEMA_NAME}.{name}", 1))
            for sql, parameters in definition.fill_statements():
                self._connection.run(sql, parameters)
            for key, value in metadata.items():
                self._connection.run(
                    f"insert into {META} values (:key, :value)",
                    {"key": key, "value": value},
                )
            self._connection.run("commit")
        finally:
            self._connection.open()
        if self._connection.opened_state != initial_state or not self._connection.is_unlocked:
            raise ChangedWhileReadError(target=self._catalog.target)
        return created_at - created_at % 2

    def _wait_for_distinct_mtime(self) -> None:
        """Wait until later changes get another file time, on file systems with a resolution of two seconds."""
        while (
            self._connection.opened_state[3] % 10**9 == 0
            and 0 <= time.time() - self._connection.opened_state[3] // 10**9 <= COARSE_SECONDS
        ):
            signals.raise_if_interrupted()
            time.sleep(RETRY_SECONDS)

    def drop_external_index(self, path: Path) -> None:
        from dbctl.engines.sqlite.external_index import create

        self._file.detach()
        create.remove(path)

    # Verification ---------------------------------------------------------------------------------------------

    def find_external_index_faults(self, spec: ExternalIndexSpec, *, rows: int) -> Sequence[IndexFault]:
        return self._find_faults([*self._build_fault_queries(spec), self._build_text_query(spec, rows)])

    def external_index_differs(self, spec: ExternalIndexSpec) -> bool:
        import tempfile

        from dbctl.files import temp

        path = self._file.attached_path
        current_digest = self._file.read_attached(self._digest_content)
        with temp.folder(Path(tempfile.gettempdir()), ".dbctl-search-") as folder:
            rebuilt = folder / path.name
            rebuilt.touch(mode=0o600)
            self._fill_index(spec, rebuilt)
            self._file.attach(rebuilt, "mode=ro&immutable=1")
            rebuilt_digest = self._digest_content()
            self._file.detach()
        return current_digest != rebuilt_digest or self._file.inspect(spec, path).state != "fresh"

    def _digest_content(self) -> str:
        """Return a digest of the content of the attached file."""
        import hashlib

        digest = hashlib.sha256()
        for table in (PLACES, f"{SCHEMA_NAME}.texts_data", f"{SCHEMA_NAME}.texts_idx"):
            for row in self._connection.driver.execute(f"select * from {table} order by 1, 2"):
                digest.update(repr(row).encode())
        return digest.hexdigest()

    def _find_faults(self, queries: Sequence[_FaultQuery]) -> list[IndexFault]:
        from dbctl.engines.contract.fulltext import IndexFault

        faults = []
        for query in queries:
            sql = f"select count(*), min(q.i) from ({query.sql}) q"
            ((count, example),) = self._file.read_attached(
                partial(self._connection.rows, sql, query.parameters)
            )
            if count:
                faults.append(IndexFault(kind=query.kind, count=int(str(count)), example=str(example)))
        return faults

    def _build_fault_queries(self, spec: ExternalIndexSpec) -> Iterator[_FaultQuery]:
        """Yield queries for rows that are missing, stray, duplicate, out of order, or have wrong conditions."""
        table, rowid, row_name = (
            self._catalog.quote_table(spec.table),
            self._file.define(spec).rowid_name(),
            self._row_name_sql(spec),
        )
        statement = Statement(spec.table)
        differences = [
            f"p.k{position} is not (({self._builder.condition(statement, spec.table, condition, 't0')}) is true)"
            for position, condition in enumerate(spec.stored_conditions)
        ]
        unknown = f"t0.{rowid} not in (select number from {PLACES})"
        yield _FaultQuery("missing", f"select {row_name} as i from {table} t0 where {unknown}")
        known = f"select t0.{rowid} from {table} t0"
        yield _FaultQuery("stray", f"select number as i from {PLACES} where number not in ({known})")
        yield _FaultQuery(
            "duplicate",
            f"select number as i from {PLACES} group by number having count(*) > 1",
        )
        if differences:
            sql = f"select {row_name} as i from {self._join_sql(spec)} where {' or '.join(differences)}"
            yield _FaultQuery("stale", sql, statement.parameters)
        statement = Statement(spec.table)
        order = ", ".join([*self._builder.order_terms(statement, spec.table, spec.order), f"t0.{rowid}"])
        moved = f"select {row_name} as i, p.place as a, row_number() over (order by {order}) as b from {self._join_sql(spec)}"
        yield _FaultQuery("stale", f"select i from ({moved}) where a <> b", statement.parameters)

    def _build_text_query(self, spec: ExternalIndexSpec, rows: int) -> _FaultQuery:
        """Return a query for rows whose text is not found, among about ``rows`` evenly selected rows."""
        step = max(1, self._count(spec.table) // rows)
        terms = []
        for position, text in enumerate(self._file.define(spec).text_expressions()):
            phrase = f"'c{position} : \"' || replace({text}, '\"', '\"\"') || '\" '"
            terms.append(f"case when length({text}) >= {MIN_LENGTH} then {phrase} else '' end")
        match = f"select 1 from {TEXTS} x where x.texts match q.phrase and x.rowid = q.place"
        source = f"select {self._row_name_sql(spec)} as i, p.place, {' || '.join(terms)} as phrase from {self._join_sql(spec)}"
        sql = f"select i from ({source} where p.place % :step = 0) q where q.phrase <> '' and not exists ({match})"
        return _FaultQuery("stale", sql, {"step": step})

    def _join_sql(self, spec: ExternalIndexSpec) -> str:
        return f"{PLACES} p join {self._catalog.quote_table(spec.table)} t0 on t0.{self._file.define(spec).rowid_name()} = p.number"

    def _row_name_sql(self, spec: ExternalIndexSpec) -> str:
        key = self._catalog.primary_key(spec.table)
        return (
            self._catalog.quote_column(spec.table, key[0], "t0")
            if key
            else f"t0.{self._file.define(spec).rowid_name()}"
        )

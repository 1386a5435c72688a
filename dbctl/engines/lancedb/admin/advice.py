"""Findings about a LanceDB: access, fragments, versions, vectors, keys."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from dbctl.engines.contract.checks import TableSize
from dbctl.engines.contract.monitoring import EngineFinding, SettingComparison
from dbctl.engines.contract.vectors import VectorFault
from dbctl.engines.lancedb.admin.maintenance import LanceSizes
from dbctl.engines.lancedb.manifest import LEGACY_FORMAT
from dbctl.engines.lancedb.query.vectors import LanceVectors
from dbctl.engines.lancedb.values import Row, to_rows
from dbctl.errors.base import Remedy

if TYPE_CHECKING:
    from dbctl.engines.lancedb.reader import LanceReader

#: More fragments make every query noticeably slower.
MAX_FRAGMENTS = 100
#: More versions make opening noticeably slower and use disk space for old rows.
MAX_VERSIONS = 500
#: Up to this number of rows, a full scan takes about 0.1 seconds.
MAX_UNINDEXED_ROWS = 100_000

FAULT_MESSAGES = {
    "empty": "{number} rows of {table} have no {column}, so no search finds them (the first: {first})",
    "zeros": "{number} rows of {table} have only zeros in {column}, so no cosine search finds them (the first: {first})",
    "not-finite": "{number} rows of {table} have NaN or infinity in {column} (the first: {first})",
    "length": "{number} rows of {table} have a {column} of unusual length (the first: {first})",
}
REPAIR_HINT = Remedy(
    "Let the app recreate their vectors, or delete these rows; list them with: `data rows {table}`"
)
DUPLICATES_HINT = Remedy(
    "The app inserts rows without checking their keys; list them with: `data rows {table}`"
)


class LanceAdvisor:
    """``Advisor``."""

    def __init__(self, db: LanceReader) -> None:
        self._catalog, self._rows, self._folder = db.catalog, db.rows, db.location.folder
        self._sizes, self._vectors = LanceSizes(db), LanceVectors(db)

    def server_findings(self, *, writing: bool) -> Sequence[EngineFinding]:
        findings = list(self._check_access()) if writing else []
        for size in self._sizes.measure_tables():
            findings += self._check_table(size)
        return findings

    def find_abandoned(self) -> Sequence[EngineFinding]:
        return []  # the next restore removes the leftovers of an earlier one

    def schema_findings(self, table: str = "") -> Sequence[EngineFinding]:
        names = [self._catalog.require_table(table).name] if table else list(self._catalog.tables())
        return [finding for name in names for finding in self._check_vectors(name)]

    def compare_settings(self, required: Mapping[str, str]) -> Sequence[SettingComparison]:
        del required  # LanceDB has no settings
        return []

    def _check_access(self) -> Iterator[EngineFinding]:
        if self._folder is not None and not os.access(self._folder, os.W_OK | os.X_OK):
            yield EngineFinding(
                severity="error",
                code="not-writable",
                message=f"the user of this process may not write {self._folder}",
                hint="Run dbctl as the user who owns the app's files.",
            )

    def _check_table(self, size: TableSize) -> Iterator[EngineFinding]:
        table = size.table
        if (size.fragments or 0) > MAX_FRAGMENTS:
            message = f"{table} has {size.fragments} fragments, which every query has to open"
            yield EngineFinding(
                severity="warning",
                code="fragments",
                message=message,
                hint=Remedy("`maintain optimize`").write(),
            )
        if (size.versions or 0) > MAX_VERSIONS:
            message = f"{table} stores {size.versions} versions, which use disk space"
            yield EngineFinding(
                severity="info", code="versions", message=message, hint=Remedy("`maintain vacuum`").write()
            )
        if size.format == LEGACY_FORMAT:
            message = f"{table} has a file format older than Lance 2.0, which newer libraries may not write"
            yield EngineFinding(severity="info", code="old-format", message=message)
        if size.rows > MAX_UNINDEXED_ROWS:
            indexed = {index.column for index in self._vectors.vector_indexes(table)}
            for column in self._vectors.vector_columns(table):
                if column.column not in indexed:
                    message = f"{table}.{column.column} has no index: each search scans all {size.rows} rows"
                    yield EngineFinding(severity="info", code="no-vector-index", message=message)

    def _check_vectors(self, table: str) -> Iterator[EngineFinding]:
        key = self._catalog.primary_key(table)
        for column in self._vectors.vector_columns(table):
            for fault in self._vectors.find_vector_faults(table, column.column, key):
                yield _create_finding(fault, table, column.column)
        if key:
            count, first = self._count_duplicates(table, key)
            if count:
                yield EngineFinding(
                    severity="warning",
                    code="duplicate-keys",
                    message=f"{count} rows of {table} have the {', '.join(key)} of another (the first: {first})",
                    hint=DUPLICATES_HINT.write(facts={"table": table}),
                    column=f"{table}.{key[0]}",
                )

    def _count_duplicates(self, table: str, key: Sequence[str]) -> tuple[int, str]:
        """Return the number of rows whose key an earlier row has, and one such key."""
        counts: Counter[Row] = Counter()
        with self._catalog.translate_errors():
            for batch in self._rows.scan(table, list(key)):
                counts.update(to_rows(batch, key))
        duplicates = [key for key, count in counts.items() if count > 1]
        first = " ".join(str(value) for value in duplicates[0]) if duplicates else ""
        return sum(counts[key] - 1 for key in duplicates), first


def _create_finding(fault: VectorFault, table: str, column: str) -> EngineFinding:
    first = " ".join(str(value) for value in fault.examples[0]) if fault.examples else ""
    template = FAULT_MESSAGES[fault.kind]
    return EngineFinding(
        severity="warning",
        code=f"vector-{fault.kind}",
        message=template.format(number=fault.count, table=table, column=column, first=ascii(first)),
        hint=REPAIR_HINT.write(facts={"table": table}),
        column=f"{table}.{column}",
    )

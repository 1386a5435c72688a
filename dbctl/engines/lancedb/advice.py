"""What an admin should know of a LanceDB: vectors that nothing finds, rows that are there twice, room and speed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from dbctl.engines.base import Measured
from dbctl.engines.lancedb.measures import LanceMeasures
from dbctl.engines.lancedb.nearest import LanceVectors
from dbctl.engines.server import Concern, Tuning
from dbctl.engines.vectors import VectorFault

#: Parts of a table from which on every question takes noticeably longer.
FRAGMENTS = 100
#: Versions from which on opening takes noticeably longer, and room is taken by what nobody goes back to.
VERSIONS = 500
#: Rows up to which looking at every one takes about a tenth of a second.
BRUTE = 100_000
#: The format of before 2024.
LEGACY = "0.1"

FAULTS = {
    "empty": "{number} rows of {table} have no {column}, so that no search finds them (the first: {first})",
    "zeros": "{number} rows of {table} have a {column} of zeros, which a search by cosine never finds (the first: {first})",
    "endless": "{number} rows of {table} have a {column} with NaN or infinity in it (the first: {first})",
    "length": "{number} rows of {table} have a {column} of another length than most (the first: {first})",
}
MEND = "Let the app make their vectors anew, or delete these rows: dbctl data rows {table} shows them."


class LanceAdvice(LanceMeasures, LanceVectors):
    """Capability.ADVISE."""

    def concerns(self, *, writing: bool) -> Sequence[Concern]:
        found = list(self._refusals()) if writing else []
        for one in self.measured():
            found += self._of_table(one)
        return found

    def abandoned(self) -> Sequence[Concern]:
        return []  # what a restore has left stands beside the folder, and the next one takes it away

    def flaws(self, table: str = "") -> Sequence[Concern]:
        names = [self._checked(table).name] if table else list(self.tables())
        return [one for name in names for one in self._flaws(name)]

    def tuned(self, wanted: Mapping[str, str]) -> Sequence[Tuning]:
        del wanted  # it has no settings
        return []

    def _refusals(self) -> Iterator[Concern]:
        if self._place.folder is not None and not os.access(self._place.folder, os.W_OK | os.X_OK):
            yield Concern(
                severity="error",
                code="not-writable",
                message=f"{self._place.folder} may not be written by this user",
                hint="Run dbctl as the user who owns the app's files.",
            )

    def _of_table(self, told: Measured) -> Iterator[Concern]:
        table = told.table
        if (told.fragments or 0) > FRAGMENTS:
            message = f"{table} is in {told.fragments} parts, each of which every question has to open"
            yield Concern(
                severity="warning", code="fragments", message=message, hint="dbctl maintain optimize"
            )
        if (told.versions or 0) > VERSIONS:
            message = f"{table} keeps {told.versions} versions, and the room of what they held"
            yield Concern(severity="info", code="versions", message=message, hint="dbctl maintain vacuum")
        if told.format == LEGACY:
            message = (
                f"{table} is kept in the format of Lance before 2.0, which newer libraries may cease to write"
            )
            yield Concern(severity="info", code="old-format", message=message)
        if told.rows > BRUTE:
            indexed = {one.column for one in self.vector_indexes(table)}
            for one in self.vector_columns(table):
                if one.column not in indexed:
                    message = f"{table}.{one.column} has no index: each search looks at all {told.rows} rows"
                    yield Concern(severity="info", code="no-vector-index", message=message)

    def _flaws(self, table: str) -> Iterator[Concern]:
        key = self.key(table)
        for one in self.vector_columns(table):
            for fault in self.vector_faults(table, one.column, key):
                yield _told(fault, table, one.column)
        if key:
            number, first = self.twins(table, key)
            if number:
                yield Concern(
                    severity="warning",
                    code="duplicate-keys",
                    message=f"{number} rows of {table} have the {', '.join(key)} of another (the first: {first})",
                    hint=f"The app adds rows without looking: dbctl data rows {table} shows them.",
                    column=f"{table}.{key[0]}",
                )


def _told(fault: VectorFault, table: str, column: str) -> Concern:
    first = " ".join(str(value) for value in fault.examples[0]) if fault.examples else ""
    words = FAULTS[fault.kind]
    return Concern(
        severity="warning",
        code=f"vector-{fault.kind}",
        message=words.format(number=fault.number, table=table, column=column, first=ascii(first)),
        hint=MEND.format(table=table),
        column=f"{table}.{column}",
    )

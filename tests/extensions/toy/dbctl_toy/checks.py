"""The check of the extension."""

from collections.abc import Iterator

from dbctl.errors.base import Remedy
from dbctl.model import Finding
from dbctl.services.app.evidence.subjects import Subject, check

#: The rows that a table of a toy may have.
MAX_ROWS = 1000


@check("toy-large")
def check_size(subject: Subject) -> Iterator[Finding]:
    """Yield a finding for each table with more rows than a toy may have."""
    for table in subject.db.tables():
        if (rows := subject.db.count(table)) > MAX_ROWS:
            hint = Remedy("Count the rows of all tables with: `toy count`")
            yield subject.finding("warning", "toy-large", f"{table} has {rows} rows", hint)

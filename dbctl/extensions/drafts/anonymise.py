"""Draft the rules of anonymised copies: what replaces personal data in each column."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from dbctl.extensions.drafts import usual_names
from dbctl.extensions.drafts.databases import MAIN
from dbctl.extensions.drafts.document import Line, Part, Value, join_names, write_header
from dbctl.model import format_count
from dbctl.services.app.evidence.gather import Evidence, TableEvidence
from dbctl.services.app.evidence.personal import PersonalColumn, can_be_personal, recognise_columns
from dbctl.services.app.evidence.references import normalize

#: Fields of users whose rules follow from the fields.
_KNOWN_FIELDS = ("username", "email", "name", "active")
#: A column of texts with at most so many different values, each of them several times, may be a type or a state.
MOST_STATES, SHARE = 8, 3


def draft_rules(evidence: Evidence, *, emptied: Collection[str], described: Collection[str]) -> list[Part]:
    """Return the section about anonymised copies; the rows of ``emptied``, tables of sign-ins, are not copied.

    The rules of the columns ``described`` (``table.column``) follow from other sections.
    """
    tables, lines, unknown = list[Line | str](), list[Line | str](), list[str]()
    for table in evidence.base_tables():
        name = normalize(table.name)
        if table.name in emptied or "*" in table.name or usual_names.LEDGER_TABLE.search(name):
            continue
        if usual_names.is_log(table.name):
            tables.append(Line(table.name, "empty", "by its name a log", is_candidate=True))
        recognised = {item.column: item for item in recognise_columns(table)}
        for column in _list_undescribed(table, described):
            if item := recognised.get(column):
                lines.append(_write_line(table, item))
            elif counts := _count_states(table, column):
                lines.append(Line(f"{table.name}.{column}", "keep", counts, is_candidate=True))
            else:
                unknown.append(f"{table.name}.{column}")
    if unknown:
        lines.append(f"without a rule: {join_names(unknown)}; copy --anonymise lists all of them")
    remark = "Anonymised copies: pseudonyms in place of personal data; other sections are the rules of logins, passwords and secrets"
    parts = [(("tables", tables), [remark]), (("columns", lines), [] if tables else [remark])]
    return [
        Part(header=write_header("anonymise", "databases", MAIN, key), remarks=remarks, lines=content)
        for (key, content), remarks in parts
        if content
    ]


def list_described(table: TableEvidence, fields: Mapping[str, str]) -> Iterator[str]:
    """Yield the columns of users (``table.column``) whose rules follow from their fields."""
    for field, column in fields.items():
        if field in _KNOWN_FIELDS or field in usual_names.TIME_FIELDS or usual_names.PERSONAL.search(field):
            yield f"{table.name}.{column}"


def _list_undescribed(table: TableEvidence, described: Collection[str]) -> Sequence[str]:
    return [
        column.name
        for column in table.columns.values()
        if can_be_personal(column)
        and "*" not in column.name
        and f"{table.name}.{column.name}" not in described
        and table.target(column.name) is None
    ]


def _write_line(table: TableEvidence, item: PersonalColumn) -> Line:
    value: Value = {"kind": "json", "rest": "text"} if item.kind == "json" else item.kind
    return Line(f"{table.name}.{item.column}", value, item.evidence)


def _count_states(table: TableEvidence, column: str) -> str:
    """Return the evidence that a column has a list of values; empty: it has many."""
    stored = table.values(column)
    count = len(set(map(str, stored)))
    is_list = 0 < count <= MOST_STATES and count * SHARE <= len(stored)
    return f"{format_count(count, 'different value')} in {len(stored)} rows" if is_list else ""

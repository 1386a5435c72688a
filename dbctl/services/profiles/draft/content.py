"""Draft searches of the tables with texts, and reports."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from dbctl.engines.sql.catalog import ident
from dbctl.services.app.evidence import references, subjects
from dbctl.services.app.evidence.gather import Evidence, TableEvidence
from dbctl.services.profiles.draft.document import Line, Part

#: The most searches and columns of a search.
MOST_SEARCHES, MOST_WORDS, MOST_SHOWN = 4, 4, 6
#: Columns that may have the state of a row.
STATES = ("status", "state", "visibility")
_RESERVED = ("index", "all", "semantic", "vectors")


def draft_searches(evidence: Evidence, excluded: Collection[str], database: str) -> Iterator[Part]:
    """Yield a search for each of the tables with the most texts."""
    rated = [
        (_rate(evidence, table), table) for table in evidence.base_tables() if table.name not in excluded
    ]
    ranked = sorted(rated, key=lambda entry: (-entry[0], entry[1].name))
    for points, table in ranked[:MOST_SEARCHES]:
        if points > 0:
            yield _draft_search(table, database)


def _rate(evidence: Evidence, table: TableEvidence) -> int:
    """Return points for texts and rows; 0: the table has no texts for readers."""
    titles, bodies = (
        references.find_names(table, references.TITLE),
        references.find_names(table, references.BODY),
    )
    name = references.normalize(table.name)
    if not (titles and table.key and table.rows) or any(
        map(subjects.is_whole, (table.columns[title] for title in titles[:1]))
    ):
        return 0
    if (
        references.SETTINGS_TABLE.search(name)
        or references.ROLES_TABLE.search(name)
        or references.PERMISSIONS_TABLE.search(name)
    ):
        return 0
    if (
        references.SESSIONS_TABLE.search(name)
        or "migration" in name
        or name.endswith(("_log", "_logs", "_cache"))
    ):
        return 0
    referring = sum(
        any(reference.table == table.name for reference in other.references)
        for other in evidence.base_tables()
    )
    return (
        3 * ("title" in map(references.normalize, titles))
        + 2 * bool(bodies)
        + min(referring, 5)
        + min(len(table.rows), 5)
    )


def _draft_search(table: TableEvidence, database: str) -> Part:
    texts = [
        column
        for column in [
            *references.find_names(table, references.TITLE),
            *references.find_names(table, references.BODY),
        ]
        if subjects.is_text(table.columns[column])
        or not table.values(column)
        or isinstance(table.values(column)[0], str)
    ]
    words = list(dict.fromkeys(texts))[:MOST_WORDS] or references.find_names(table, references.TITLE)[:1]
    times = [
        column.name
        for column in table.columns.values()
        if subjects.is_time(column, table.values(column.name))
        and references.TIME_NAME.search(references.normalize(column.name))
    ]
    shown = list(dict.fromkeys([table.key, *words, *times]))[:MOST_SHOWN]
    name = references.normalize(table.name).replace("_", "-") or "rows"
    lines = [
        Line("name", f"{name}-rows" if name in _RESERVED else name),
        Line("database", database),
        Line("table", table.name),
        Line("id", table.key),
        Line("words", words, "columns with texts"),
        Line("show", shown),
        Line("sort", [{"name": words[0], "columns": [words[0]]}]),
    ]
    if times := [column for column in times if column in shown]:
        lines.append(Line("times", times))
    return Part(header="search", is_array=True, remarks=[f"Search of {table.name}"], lines=lines)


def draft_reports(
    evidence: Evidence,
    users: TableEvidence | None,
    fields: Mapping[str, str],
) -> Iterator[Part]:
    """Yield reports: the newest users, and the rows of each state."""
    if users and "created_at" in fields:
        login = next((field for field in ("username", "email", "name", "id") if field in fields), "")
        columns = [fields[field] for field in (login, "created_at") if field]
        yield _draft_report(
            "newest-users",
            "Newest users",
            users,
            columns,
            f"select {_join(columns)} from {ident(users.name)} order by {ident(fields['created_at'])} desc limit :limit offset :offset",
            times=[fields["created_at"]],
        )
    for table in evidence.base_tables():
        state = next(
            (column for column in references.find_names(table, STATES) if column in table.columns), ""
        )
        distinct = {str(value) for value in table.values(state)} if state else set()
        if table.rows and 1 < len(distinct) <= 8 and table is not users:  # noqa: PLR2004 - more values are no states
            column, name = ident(state), ident(table.name)
            yield _draft_report(
                f"{references.normalize(table.name).replace('_', '-')}-by-{references.normalize(state).replace('_', '-')}",
                f"Rows of {table.name} by {state}",
                table,
                [state],
                f"select {column}, count(*) from {name} group by {column} order by 2 desc limit :limit offset :offset",
                further=["rows"],
            )


def _draft_report(
    name: str,
    title: str,
    table: TableEvidence,
    columns: Sequence[str],
    sql: str,
    *,
    times: Sequence[str] = (),
    further: Sequence[str] = (),
) -> Part:
    needs = [f"{table.name}.{column}" for column in columns]
    lines = [Line("name", name), Line("title", title), Line("columns", [*columns, *further])]
    lines += [Line("times", list(times))] if times else []
    lines.append(Line("variant", [{"needs": needs, "sql": sql}]))
    return Part(header="report", is_array=True, lines=lines)


def _join(columns: Sequence[str]) -> str:
    return ", ".join(map(ident, columns))

"""Draft second factors of users as candidates: names show where they may be, but no data show what the app asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dbctl.extensions.drafts import usual_names
from dbctl.extensions.drafts.document import Decision, Draft, Line, Part, Value, join_names
from dbctl.model import Struct
from dbctl.services.app.evidence import references, subjects
from dbctl.services.app.evidence.gather import Evidence, TableEvidence


class _Candidate(Struct, frozen=True, kw_only=True):
    """Where a kind of second factor may be."""

    table: str
    user: str  #: the column with the key of the user
    columns: Mapping[str, Value] = {}  #: with their values after a reset; empty: the row is deleted
    confirmed: Mapping[str, Value] = {}
    evidence: str


def draft_second_factors(evidence: Evidence, users: TableEvidence) -> Draft:
    """Return candidates for columns of users, and for tables that refer to users, and an open decision about them."""
    candidates = [*_find_columns(users), *_find_tables(evidence, users)]
    if not candidates:
        return Draft()
    places = [f"{entry.table}.{name}" for entry in candidates for name in entry.columns or [entry.user]]
    text = f"what users reset-2fa removes: {join_names(places)} may be second factors (profiles learn reset-2fa shows it)"
    return Draft(
        parts=[_write_part(entry) for entry in candidates], decisions=[Decision("second-factors", text)]
    )


def _find_columns(users: TableEvidence) -> Iterator[_Candidate]:
    """Yield the columns of users with secrets and codes, and the flags by which the app asks for them."""
    secrets = [
        name
        for name in references.match_columns(users, usual_names.FACTOR_SECRET)
        if users.columns[name].nullable or subjects.is_text(users.columns[name])
    ]
    flags = references.match_columns(users, usual_names.FACTOR_FLAG)
    if secrets:
        ends = {name: ":null" if users.columns[name].nullable else "" for name in secrets}
        yield _Candidate(
            table=users.name,
            user=users.key,
            columns={**dict.fromkeys(flags, False), **ends},
            confirmed=dict.fromkeys(flags, True),
            evidence=f"the names of {join_names([*flags, *secrets])}",
        )


def _find_tables(evidence: Evidence, users: TableEvidence) -> Iterator[_Candidate]:
    """Yield the tables named like second factors, with their column that refers to users."""
    seen = set[str]()
    for reference in references.find_user_references(evidence, users, users.key):
        named = usual_names.FACTOR_TABLE.search(references.normalize(reference.table))
        if (
            named
            and reference.table not in {*seen, users.name}
            and not evidence.tables[reference.table].is_view
        ):
            seen.add(reference.table)
            yield _Candidate(
                table=reference.table,
                user=reference.column,
                evidence=f"the name of the table, and {reference.column}, which refers to {users.name}",
            )


def _write_part(entry: _Candidate) -> Part:
    kind = usual_names.name_second_factor(entry.table) if not entry.columns else usual_names.OTHER_FACTOR
    lines = [Line("name", kind), Line("table", entry.table, entry.evidence), Line("user", entry.user)]
    if entry.columns:
        lines.append(Line("on_reset", entry.columns))
    if entry.confirmed:
        lines.append(Line("confirmed", entry.confirmed))
    if kind == usual_names.RECOVERY_CODES:
        lines.append(Line("required", False))  # noqa: FBT003 - the value itself
    remark = f"If users reset-2fa removes {join_names([*entry.columns]) or 'the rows'} of {entry.table}:"
    return Part(header="users.second_factor", is_array=True, remarks=[remark], lines=lines, is_candidate=True)

"""``dbctl search all``: find a word in all databases of an app."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

from dbctl.cli._support.emit import emit, note, warn
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import argument, flag, option
from dbctl.cli._support.parameters import Limit, period_option
from dbctl.cli._support.session import Session
from dbctl.model import Page
from dbctl.render.streams import Format
from dbctl.services.search import all_tables
from dbctl.services.search.all_tables import Match
from dbctl.spec import Example

if TYPE_CHECKING:
    from dbctl.services.search.all_tables import AllTablesResult


GROUP = Group(
    "search all", section="Inspect", position=7, help="Find a word in every text column of every database."
)


@Example("search all {login}", on="flashpoint-web custom")
@Example("search all 'lost password' --db user --within 60s")
@GROUP.command(answers=lambda: (AllTablesResult,))
def search_all(
    session: Session,
    word: Annotated[str, argument("WORD", "Literal text, ignoring the case of ASCII letters.")],
    secrets: Annotated[
        bool, flag("--secrets", "Include columns of hashes, tokens and keys, and show them.")
    ] = False,
    within: Annotated[timedelta, period_option("--within", "60s", "Stop after this time.")] = "60s",  # type: ignore[assignment]
    mark: Annotated[tuple[str, str], option("--mark", "BEFORE AFTER", "Enclose the word in snippets.")] = (
        "",
        "",
    ),
    limit: Limit = 5,
) -> int:
    """Find a word in every text column of every database, and list the columns that were not scanned.

    --limit applies to each table. Exit 12 if a part could not be scanned.
    """
    with session.open_app() as app:
        scan = all_tables.scan_tables(app, word, limit=limit, timeout=within, secrets=secrets, marks=mark)
    result = scan.result
    if session.options.output is Format.JSON:
        return emit(session, result, status=scan.status, target=app.name)
    for text in result.problems:
        warn(session, text)
    notes = (
        [f"more rows match in {'; '.join(result.truncated)}: show them with --limit N"]
        if result.truncated
        else []
    )
    for text in [*notes, *([result.note] if result.note else [])]:
        note(session, text)
    page = Page[Match](items=result.items, total=len(result.items), column_names=Match.__struct_fields__)
    return emit(session, page, status=scan.status, target=app.name)

"""``dbctl search``: search the content of an app, as its profile defines it."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from typing import TYPE_CHECKING, Annotated, Any

from dbctl.cli._support.emit import emit
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import argument, flag, option
from dbctl.cli._support.parameters import FILTER_ZONE, Limit, Offset, Sort, requested_page
from dbctl.cli._support.session import Session
from dbctl.errors.usage import UsageError
from dbctl.model import Page
from dbctl.profiles.model.search import RESERVED_NAMES
from dbctl.render.streams import Format
from dbctl.services.search import search as search_service
from dbctl.services.search.request import ALL, SearchRequest
from dbctl.spec import Example

if TYPE_CHECKING:
    from dbctl.services.search.detail import RowDetail
    from dbctl.services.search.request import SearchCount, SearchPlan


GROUP = Group("search", section="Inspect", position=6, help="Search the app's content.")


@Example("search games portal --filter platform=Flash")
@Example("search games --query 'title:portal NOT flash' --limit 5 -o json")
@GROUP.command(answers=lambda: (Page[dict[str, Any]], SearchCount, SearchPlan, RowDetail))
def search(
    session: Session,
    search_name: Annotated[
        str, argument("SEARCH", "Name of a search of the profile, such as games (Flashpoint Web).")
    ] = "",
    words: Annotated[
        list[str] | None,
        argument(
            "[WORDS]...",
            "Words that must all match. OR, NOT or -, (groups), '\"a phrase\"', prefix*, '*part*', =whole, 'NEAR(two words, 5)'.",
        ),
    ] = None,
    filters: Annotated[
        list[str] | None,
        option(
            "--filter",
            "KEY=VALUE",
            f"Filter: KEY=VALUE exactly, KEY:VALUE contains, KEY<VALUE, KEY>VALUE (dates: from then on), -KEY=VALUE not. Repeatable; filters on one key are ORed (tags: ANDed). {FILTER_ZONE}",
        ),
    ] = None,
    query: Annotated[
        str, option("--query", "TEXT", "Query in the app's own syntax: '#Puzzle -dev:x title:\"mad dog\"'.")
    ] = "",
    hidden_keys: Annotated[
        list[str] | None,
        option(
            "--include-hidden", "KEY,KEY", "Include rows that these keys hide, such as broken or extreme."
        ),
    ] = None,
    all_hidden: Annotated[bool, flag("--hidden", "Include all hidden rows.")] = False,
    row_id: Annotated[str | None, option("--id", "ID", "Show one row with its related rows.")] = None,
    count_only: Annotated[bool, flag("--count", "Show only the number of matches.")] = False,
    explain: Annotated[bool, flag("--explain", "Show the SQL and the query plan of the database.")] = False,
    mark: Annotated[
        tuple[str, str],
        option("--mark", "BEFORE AFTER", "Enclose matches in snippets, for example in '<mark>' '</mark>'."),
    ] = ("", ""),
    limit: Limit = 50,
    offset: Offset = 0,
    sort: Sort = "",
) -> int:
    """Search the app's content."""
    if search_name in RESERVED_NAMES:
        raise UsageError(detail=f"{search_name!r} is no search, but a command, whose options follow its name")
    request = SearchRequest(
        words=words or (),
        filters=filters or (),
        query=query,
        show_hidden=[ALL]
        if all_hidden
        else [key_name for keys in hidden_keys or () for key_name in keys.split(",")],
    )
    has_conditions = bool(request.words or request.filters or request.query or request.show_hidden)
    if sum((row_id is not None, count_only, explain)) > 1 or (row_id is not None and has_conditions):
        raise UsageError(detail="--id, --count and --explain cannot be combined, nor --id with a query")
    with session.open_app() as app:
        target = app.target(search_service.select_search(app, search_name).database)
        if row_id is not None:
            from dbctl.services.search import detail as search_detail

            return emit(session, search_detail.read_detail(app, search_name, row_id), target=target)
        if count_only:
            keys = search_service.count(app, search_name, request)
            return emit(session, keys.count, notes=[keys.note] if keys.note else (), target=target)
        page = requested_page(limit, offset, sort)
        if explain:
            explanation = search_service.explain(app, search_name, request, page)
            notes = [f"{table} is scanned completely" for table in explanation.full_scans]
            return emit(session, explanation, notes=notes, target=target)
        output = session.output_options
        is_table = output.format is Format.TABLE
        results = search_service.find(
            app, search_name, request, page, columns=output.columns, summary=is_table, marks=mark
        )
        return emit(session, results, notes=[results.note] if results.note else (), target=target)

"""``dbctl search``: look for rows of an app's content, as its profile describes them."""

# Without postponed annotations: Typer reads them in every run, and text would have to be compiled each time.
from typing import Annotated

import typer

from dbctl.cli._support.app import opened
from dbctl.cli._support.emit import emit
from dbctl.cli._support.options import Limit, Offset, Sort, call, window
from dbctl.errors import UsageError
from dbctl.profiles.model import RESERVED
from dbctl.render import Format
from dbctl.services.search import Asked
from dbctl.services.search import search as searches

app = typer.Typer(name="search", rich_markup_mode=None)


@app.command("search")
def search(
    ctx: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="WHAT", help="What to search: games (Flashpoint Web), or as the profile calls it."
        ),
    ] = "",
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[WORDS]...",
            help="Words; all must be found. OR, NOT or -, (groups), '\"a phrase\"', prefix*, '*part*', =whole.",
        ),
    ] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="KEY=VALUE",
            help="KEY=VALUE exactly, KEY:VALUE contains, KEY<VALUE, KEY>VALUE (dates: from then on), -KEY=VALUE not. Repeatable: of several for one key one is enough, of tags all.",
        ),
    ] = None,
    query: Annotated[
        str,
        typer.Option(
            "--query",
            metavar="TEXT",
            help="A query in the app's own language: '#Puzzle -dev:x title:\"mad dog\"'.",
        ),
    ] = "",
    shown: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="KEY,KEY", help="Also rows hidden by these keys: broken, extreme."),
    ] = None,
    everything: Annotated[bool, typer.Option("--hidden", help="Also all that is hidden.")] = False,
    key: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Show this one row with all that belongs to it.")
    ] = None,
    count: Annotated[bool, typer.Option("--count", help="Only count.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show the SQL and how the database would answer it.")
    ] = False,
    mark: Annotated[
        tuple[str, str],
        typer.Option(
            "--mark",
            metavar="BEFORE BEHIND",
            help="Put these around what was found, in snippets: '<mark>' '</mark>'.",
        ),
    ] = ("", ""),
    limit: Limit = 50,
    offset: Offset = 0,
    sort: Sort = "",
) -> int:
    """Search the app's content."""
    if name in RESERVED:
        detail = f"{name!r} is no search; dbctl search {name} {' '.join(words or ())}".rstrip()
        raise UsageError(detail=f"{detail} wants its options behind it")
    asked = Asked(
        words=words or (),
        filters=filters or (),
        query=query,
        shown=[searches.ALL] if everything else [word for told in shown or () for word in told.split(",")],
    )
    looked_for = bool(asked.words or asked.filters or asked.query or asked.shown)
    if sum((key is not None, count, explain)) > 1 or (key is not None and looked_for):
        raise UsageError(
            detail="--id, --count and --explain exclude each other, and --id what else is looked for"
        )
    with opened(ctx) as found:
        target = found.target(searches.named(found, name).database)
        if key is not None:
            from dbctl.services.search import detail as search_detail

            return emit(ctx, search_detail.one(found, name, key), target=target)
        if count:
            told = searches.count(found, name, asked)
            return emit(ctx, told.counted, notes=[told.remark] if told.remark else (), target=target)
        page = window(limit, offset, sort)
        if explain:
            answer = searches.explain(found, name, asked, page)
            notes = [f"{table} is read whole, row by row" for table in answer.full_scans]
            return emit(ctx, answer, notes=notes, target=target)
        look = call(ctx).look
        brief = look.format is Format.TABLE
        page_of = searches.find(found, name, asked, page, columns=look.columns, brief=brief, marks=mark)
        return emit(ctx, page_of, notes=[page_of.remark] if page_of.remark else (), target=target)

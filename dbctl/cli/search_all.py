"""``dbctl search all``: a word in all that an app stores."""

# Without postponed annotations: Typer reads them in every run, and text would have to be compiled each time.
from datetime import timedelta
from typing import Annotated

import typer

from dbctl.cli._support.app import opened, span
from dbctl.cli._support.emit import emit, note, warn
from dbctl.cli._support.options import Limit, call
from dbctl.model import Page
from dbctl.render import Format
from dbctl.services.search import Match, all_tables

app = typer.Typer(name="search all", rich_markup_mode=None)


@app.command("search all")
def search_all(
    ctx: typer.Context,
    word: Annotated[
        str, typer.Argument(metavar="WORD", help="Text to look for, literally; upper and lower case are one.")
    ],
    secrets: Annotated[
        bool,
        typer.Option("--secrets", help="Look at columns of hashes, tokens and keys, too, and show them."),
    ] = False,
    within: Annotated[
        timedelta, typer.Option("--within", parser=span, metavar="60s", help="How long all of it may take.")
    ] = "60s",  # type: ignore[assignment]
    mark: Annotated[
        tuple[str, str],
        typer.Option("--mark", metavar="BEFORE BEHIND", help="Put these around the word in snippets."),
    ] = ("", ""),
    limit: Limit = 5,
) -> int:
    """Find a word in every text of every database: where it stands, and what was not looked at.

    --limit is for the rows of each table. Ends with 12 where part of it could not be looked through.
    """
    with opened(ctx) as found:
        looked = all_tables.look(found, word, limit=limit, within=within, secrets=secrets, marks=mark)
    answer = looked.found
    if call(ctx).output is Format.JSON:
        return emit(ctx, answer, status=looked.status, target=found.name)
    for text in answer.troubles:
        warn(ctx, text)
    more = [f"more rows of {', '.join(answer.more)} have it: --limit N"] if answer.more else []
    for text in [*more, *([answer.remark] if answer.remark else [])]:
        note(ctx, text)
    page = Page[Match](items=answer.items, total=len(answer.items), names=Match.__struct_fields__)
    return emit(ctx, page, status=looked.status, target=found.name)

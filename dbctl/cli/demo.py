"""``dbctl demo``: sample data to try dbctl on."""

# Without postponed annotations: Typer reads them in every run, and text would have to be compiled each time.
from pathlib import Path
from typing import Annotated

import typer

from dbctl.cli._support.app import selection
from dbctl.cli._support.emit import change, progress
from dbctl.cli._support.options import DryRun, Shape, whole
from dbctl.demo import counts_of
from dbctl.demo.command import Sample

app = typer.Typer(name="demo", rich_markup_mode=None)


def _count(text: str) -> int:
    return whole(text, 0)


@app.command()
def demo(
    ctx: typer.Context,
    profile: Annotated[str, typer.Argument(metavar="[PROFILE]", help="Which app.")] = "flashpoint-web",
    directory: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="A new or empty directory.", file_okay=False)
    ] = Path("dbctl-sample"),
    games: Annotated[
        int | None,
        typer.Option("--games", parser=_count, metavar="N", help="How many games (flashpoint-web)."),
    ] = None,
    users: Annotated[
        int | None, typer.Option("--users", parser=_count, metavar="N", help="How many users.")
    ] = None,
    plays: Annotated[
        int | None,
        typer.Option("--plays", parser=_count, metavar="N", help="How many plays (flashpoint-web)."),
    ] = None,
    messages: Annotated[
        int | None,
        typer.Option(
            "--messages", parser=_count, metavar="N", help="How many messages (chat-lancedb, waqtor, yaai)."
        ),
    ] = None,
    chats: Annotated[
        int | None,
        typer.Option("--chats", parser=_count, metavar="N", help="How many chats (chat-lancedb, yaai)."),
    ] = None,
    prompts: Annotated[
        int | None,
        typer.Option("--prompts", parser=_count, metavar="N", help="How many prompts (promptvault)."),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", parser=_count, metavar="N", help="The same seed makes the same data.")
    ] = 0,
    shape: Shape = "",
    dry_run: DryRun = False,
) -> int:
    """Build a sample deployment of an app, with a dbctl.toml beside it.

    An app that lives on a server, or may, wants a new, empty database there: --url main=postgresql://…
    """
    given = {"games": games, "users": users, "plays": plays, "messages": messages, "prompts": prompts}
    given |= {"chats": chats}
    counts = counts_of(profile, given)
    with progress(ctx, "Making rows", sum(counts.values())) as advance:
        prepared = Sample(
            profile,
            directory,
            counts=counts,
            urls=selection(ctx).urls,
            shape=shape,
            seed=seed,
            advance=advance,
        )
        return change(ctx, prepared)

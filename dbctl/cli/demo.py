"""``dbctl demo``: sample data to try dbctl on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dbctl.cli._options import DryRun, call, whole
from dbctl.cli._run import change, progress
from dbctl.services import sample
from dbctl.services.demo import numbers_of

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
        typer.Option("--games", parser=_count, metavar="N", help="How many games (Flashpoint Web)."),
    ] = None,
    users: Annotated[
        int | None, typer.Option("--users", parser=_count, metavar="N", help="How many users.")
    ] = None,
    plays: Annotated[
        int | None,
        typer.Option("--plays", parser=_count, metavar="N", help="How many plays (Flashpoint Web)."),
    ] = None,
    prompts: Annotated[
        int | None,
        typer.Option("--prompts", parser=_count, metavar="N", help="How many prompts (PromptVault)."),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", parser=_count, metavar="N", help="The same seed makes the same data.")
    ] = 0,
    dry_run: DryRun = False,
) -> int:
    """Build a sample deployment of an app, with a dbctl.toml beside it.

    --url DATABASE=URL fills an empty database on a server instead of a file.
    """
    told = {"games": games, "users": users, "plays": plays, "prompts": prompts}
    numbers = {word: number for word, number in told.items() if number is not None}
    with progress(ctx, "Making rows", sum({**numbers_of(profile), **numbers}.values())) as advance:
        prepared = sample.Sample(
            profile, directory, numbers=numbers, urls=call(ctx).url, seed=seed, advance=advance
        )
        return change(ctx, prepared)

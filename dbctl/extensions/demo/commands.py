"""``dbctl demo``: create a sample deployment."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from pathlib import Path
from typing import Annotated

import typer

from dbctl.cli._support.emit import run_change, show_progress
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import parse_natural
from dbctl.cli._support.parameters import DryRun, Variant
from dbctl.cli._support.session import Session
from dbctl.extensions.demo import command
from dbctl.extensions.demo.command import Sample
from dbctl.extensions.demo.definition import resolve_counts
from dbctl.model import DryRunResult
from dbctl.spec import Example

GROUP = Group("demo", section="Set up", position=5, help="Create a sample deployment.")


@Example("demo flashpoint-web sample")
@Example("demo chat-lancedb chat --messages 500 --seed 7")
@GROUP.command(answers=lambda: (command.SampleBuilt, DryRunResult), recorded=True)
def demo(
    session: Session,
    profile: Annotated[
        str, typer.Argument(metavar="[PROFILE]", help="Profile of the app.")
    ] = "flashpoint-web",
    directory: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="New or empty directory.", file_okay=False)
    ] = Path("dbctl-sample"),
    games: Annotated[
        int | None,
        typer.Option("--games", parser=parse_natural, metavar="N", help="Number of games (flashpoint-web)."),
    ] = None,
    users: Annotated[
        int | None, typer.Option("--users", parser=parse_natural, metavar="N", help="Number of users.")
    ] = None,
    plays: Annotated[
        int | None,
        typer.Option("--plays", parser=parse_natural, metavar="N", help="Number of plays (flashpoint-web)."),
    ] = None,
    messages: Annotated[
        int | None,
        typer.Option(
            "--messages",
            parser=parse_natural,
            metavar="N",
            help="Number of messages (chat-lancedb, waqtor, yaai).",
        ),
    ] = None,
    chats: Annotated[
        int | None,
        typer.Option(
            "--chats", parser=parse_natural, metavar="N", help="Number of chats (chat-lancedb, yaai)."
        ),
    ] = None,
    prompts: Annotated[
        int | None,
        typer.Option("--prompts", parser=parse_natural, metavar="N", help="Number of prompts (promptvault)."),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            parser=parse_natural,
            metavar="N",
            help="Seed of the random data; the same seed creates the same data.",
        ),
    ] = 0,
    variant: Variant = "",
    dry_run: DryRun = False,
) -> int:
    """Create a sample deployment of an app, with a dbctl.toml.

    An app with a database on a server requires a new, empty database there: --url main=postgresql://…
    """
    requested_counts = {
        "games": games,
        "users": users,
        "plays": plays,
        "messages": messages,
        "prompts": prompts,
        "chats": chats,
    }
    counts = resolve_counts(profile, requested_counts)
    with show_progress(session, "creating rows", sum(counts.values()), unit="rows"):
        operation = Sample(
            profile,
            directory,
            counts=counts,
            urls=session.selection.urls,
            variant=variant,
            seed=seed,
        )
        return run_change(session, operation, dry_run=dry_run)

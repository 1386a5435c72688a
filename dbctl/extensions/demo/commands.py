"""``dbctl demo``: create a sample deployment."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from pathlib import Path
from typing import Annotated

import typer

from dbctl.cli._support.emit import run_change, show_progress
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import argument, option, parse_natural
from dbctl.cli._support.parameters import DryRun, Variant
from dbctl.cli._support.session import Session
from dbctl.extensions.demo.builder import CreateSample, SampleBuilt
from dbctl.extensions.demo.definition import resolve_counts
from dbctl.spec import Example

GROUP = Group("demo", section="Set up", position=5, help="Create a sample deployment.")


@Example("demo flashpoint-web sample")
@Example("demo chat-lancedb chat --messages 500 --seed 7")
@GROUP.command(answers=lambda: (SampleBuilt,), recorded=True)
def demo(
    session: Session,
    profile: Annotated[str, argument("[PROFILE]", "Profile of the app.")] = "flashpoint-web",
    directory: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="New or empty directory.", file_okay=False)
    ] = Path("dbctl-sample"),
    games: Annotated[
        int | None, option("--games", "N", "Number of games (flashpoint-web).", parse_natural)
    ] = None,
    users: Annotated[int | None, option("--users", "N", "Number of users.", parse_natural)] = None,
    plays: Annotated[
        int | None, option("--plays", "N", "Number of plays (flashpoint-web).", parse_natural)
    ] = None,
    messages: Annotated[
        int | None,
        option("--messages", "N", "Number of messages (chat-lancedb, waqtor, yaai).", parse_natural),
    ] = None,
    chats: Annotated[
        int | None, option("--chats", "N", "Number of chats (chat-lancedb, yaai).", parse_natural)
    ] = None,
    prompts: Annotated[
        int | None, option("--prompts", "N", "Number of prompts (promptvault).", parse_natural)
    ] = None,
    seed: Annotated[
        int,
        option("--seed", "N", "Seed of the random data; the same seed creates the same data.", parse_natural),
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
        operation = CreateSample(
            profile, directory, counts=counts, urls=session.selection.urls, variant=variant, seed=seed
        )
        return run_change(session, operation, dry_run=dry_run)

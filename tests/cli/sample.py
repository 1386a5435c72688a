"""A command group that does nothing to any database, run by the real command line: the skeleton's own facts."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from dbctl import __main__
from dbctl.cli._lazy import GROUPS
from dbctl.cli._support.emit import change, emit, note, progress, read_logins, read_password
from dbctl.cli._support.options import DryRun, Limit, Offset, Sort, call, window
from dbctl.errors import BusyError, PlanChangedError
from dbctl.model import Page, Plan, Secret, Value

app = typer.Typer(name="sample", help="Facts about the skeleton.", no_args_is_help=True)
EVIDENCE = Path("done")


class Done(Value, frozen=True, kw_only=True):
    changed: int


class Wipe:
    app = "shop"
    protected = bool(os.environ.get("PROTECTED"))

    def __init__(self, steps):
        self.steps = steps

    def plan(self):
        return Plan(
            title="Wipe everything",
            target="shop/main",
            steps=self.steps,
            rows={"t": 2},
            destructive=bool(self.steps),
        )

    def apply(self, seen=None):
        if os.environ.get("MOVED"):
            self.steps = ["something else"]
        if seen not in {None, self.plan().digest}:
            raise PlanChangedError(target="shop/main")
        EVIDENCE.write_text(str(seen))
        return Done(changed=len(self.steps))


@app.command()
def wipe(
    ctx: typer.Context,
    step: Annotated[list[str] | None, typer.Option("--step")] = None,
    dry_run: DryRun = False,
) -> int:
    """Destroy it."""
    return change(ctx, Wipe(step or []), target="shop/main")


@app.command("list")
def list_(ctx: typer.Context, limit: Limit = 50, offset: Offset = 0, sort: Sort = "") -> int:
    """List what was said."""
    wanted = window(limit, offset, sort)
    items = [
        {"n": number, "sort": wanted.sort, "text": os.environ.get("TEXT", "x")}
        for number in range(min(limit, 200_000))
    ]
    return emit(
        ctx, Page(items=items, total=10**6, limit=wanted.limit, offset=wanted.offset), notes=["a remark"]
    )


@app.command()
def said(ctx: typer.Context) -> int:
    """Tell the options."""
    told = call(ctx)
    return emit(
        ctx,
        {
            "app": told.app,
            "url": list(told.url),
            "timeout": told.timeout,
            "quiet": told.quiet,
            "color": told.color,
        },
    )


@app.command()
def fault(ctx: typer.Context, kind: str) -> int:
    """Fail."""
    if kind == "busy":
        raise BusyError(target="shop/main", holder=" by pid 7", waited=5)
    if kind == "deep":

        def down():
            down()

        down()
    if kind == "memory":
        raise MemoryError
    hidden = "hunter2"
    raise KeyError(hidden)


@app.command()
def secret(ctx: typer.Context) -> int:
    """Try to show one."""
    return emit(ctx, {"password": Secret("hunter2")})


@app.command()
def wait(ctx: typer.Context) -> int:
    """Wait for a signal."""
    sys.stderr.write("waiting\n")
    sys.stderr.flush()
    time.sleep(30)
    return 0


@app.command()
def password(
    ctx: typer.Context,
    stdin: Annotated[bool, typer.Option("--password-stdin")] = False,
    file: Annotated[Path | None, typer.Option("--password-file")] = None,
    generate: Annotated[bool, typer.Option("--generate")] = False,
) -> int:
    """Read one."""
    read, made = read_password(ctx, stdin=stdin, file=file, generate=generate)
    return emit(ctx, {"length": len(read.reveal()), "made": made, "right": read.reveal() == " pass word "})


@app.command()
def names(ctx: typer.Context, words: list[str]) -> int:
    """Read some."""
    return emit(ctx, {"names": read_logins(words)})


@app.command()
def work(ctx: typer.Context, seconds: float) -> int:
    """Take long."""
    with progress(ctx, "Working [bold]", 100) as advance:
        for _ in range(20):
            time.sleep(seconds / 20)
            advance(5)
    note(ctx, "worked")
    return emit(ctx, None)


if __name__ == "__main__":
    GROUPS["sample"] = "Facts about the skeleton."
    sys.modules["dbctl.cli.sample"] = sys.modules["__main__"]
    __main__.run()

"""A command group without a database, run by the real command line, to test options, output and prompts."""

from __future__ import annotations

import os
import resource
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import Annotated

import typer

from dbctl import __main__
from dbctl.cli._support.emit import (
    PasswordSource,
    emit,
    note,
    read_logins,
    read_password,
    run_change,
    show_progress,
)
from dbctl.cli._support.group import Group
from dbctl.cli._support.parameters import DryRun, Limit, Offset, Sort, requested_page
from dbctl.cli._support.session import Session
from dbctl.errors.connection import BusyError
from dbctl.errors.usage import PlanChangedError
from dbctl.files import atomic
from dbctl.files.subprocesses import ProgramWatch, run_program
from dbctl.model import Page, Plan, Secret, Struct

GROUP = Group("sample", help="Commands for tests.")
EVIDENCE = Path("done")


class Done(Struct, frozen=True, kw_only=True):
    changed: int


class Wipe:
    app, target = "shop", "shop/main"
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

    def apply(self, confirmed=None):
        if os.environ.get("MOVED"):
            self.steps = ["something else"]
        if confirmed not in {None, self.plan().digest}:
            raise PlanChangedError(target="shop/main")
        EVIDENCE.write_text(str(confirmed))
        return Done(changed=len(self.steps))


@GROUP.command("wipe", answers=tuple)
def wipe(
    session: Session,
    step: Annotated[list[str] | None, typer.Option("--step")] = None,
    dry_run: DryRun = False,
) -> int:
    """Delete everything."""
    return run_change(session, Wipe(step or []), dry_run=dry_run)


@GROUP.command("list", answers=tuple)
def list_(session: Session, limit: Limit = 50, offset: Offset = 0, sort: Sort = "") -> int:
    """List numbers."""
    page_request = requested_page(limit, offset, sort)
    items = [
        {"n": number, "sort": page_request.sort, "text": os.environ.get("TEXT", "x")}
        for number in range(min(limit, 200_000))
    ]
    return emit(
        session,
        Page(items=items, total=10**6, limit=page_request.limit, offset=page_request.offset),
        notes=["a remark"],
    )


@GROUP.command("options", answers=tuple)
def options(session: Session) -> int:
    """Show the common options."""
    result = session.options
    return emit(
        session,
        {
            "app": result.app,
            "url": list(result.url),
            "timeout": result.timeout,
            "quiet": result.quiet,
            "color": result.color,
        },
    )


@GROUP.command("fault", answers=tuple)
def fault(session: Session, kind: str) -> int:
    """Fail."""
    if kind == "busy":
        raise BusyError(target="shop/main", holder=" by pid 7", waited=5)
    if kind == "deep":

        def down():
            down()

        down()
    if kind == "files":
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        with ExitStack() as stack:
            while True:
                stack.enter_context(Path(os.devnull).open())
    if kind in ("threads", "processes"):
        os.setuid(65534)
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        if kind == "threads":
            Thread().start()
        watch = ProgramWatch(target="shop/main", hint="")
        with atomic.translate_errors(Path("dump"), Path()), run_program(["true"], {}, watch=watch):
            pass
    if kind == "denied":
        os.setuid(65534)
        list(os.scandir("/proc/1/fd"))
    if kind == "memory":
        raise MemoryError
    hidden = "hunter2"
    raise KeyError(hidden)


@GROUP.command("secret", answers=tuple)
def secret(session: Session) -> int:
    """Try to show a secret."""
    return emit(session, {"password": Secret("hunter2")})


@GROUP.command("wait", answers=tuple)
def wait(session: Session) -> int:
    """Wait for a signal."""
    sys.stderr.write("waiting\n")
    sys.stderr.flush()
    time.sleep(30)
    return 0


@GROUP.command("password", answers=tuple)
def password(
    session: Session,
    stdin: Annotated[bool, typer.Option("--password-stdin")] = False,
    file: Annotated[Path | None, typer.Option("--password-file")] = None,
    generate: Annotated[bool, typer.Option("--generate")] = False,
) -> int:
    """Read a password."""
    password_ = read_password(session, PasswordSource(stdin=stdin, file=file, generate=generate)).reveal()
    return emit(session, {"length": len(password_), "right": password_ == " pass word "})


@GROUP.command("names", answers=tuple)
def names(session: Session, words: list[str]) -> int:
    """Read logins."""
    return emit(session, {"names": read_logins(words)})


@GROUP.command("work", answers=tuple)
def work(
    session: Session, seconds: float, announce: Annotated[bool, typer.Option("--announce")] = False
) -> int:
    """Show progress for some seconds."""
    with show_progress(session, "Working [bold]", 100, unit="files") as advance:
        if announce:
            print("working", flush=True)
        for _ in range(20):
            time.sleep(seconds / 20)
            advance(5)
    note(session, "worked")
    return emit(session, None)


sys.modules["dbctl.cli.sample"] = sys.modules[__name__]

if __name__ == "__main__":
    __main__.run()

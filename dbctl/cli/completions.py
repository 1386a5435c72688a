"""``dbctl completions``: the shells' completion files, shown and installed."""

# Without postponed annotations: Typer reads them in every run, and text would have to be compiled each time.
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dbctl.cli._support.emit import emit
from dbctl.cli._support.options import call
from dbctl.config import shipped
from dbctl.errors import FileExistsAlreadyError, FileFailedError, UsageError
from dbctl.files import written_whole
from dbctl.model import Value
from dbctl.render import Format, streams

app = typer.Typer(name="completions", help="Completion of words for the shell.", no_args_is_help=True)


class Shell(StrEnum):
    """Shells that dbctl has a completion file for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


#: The names under which the shells look for the file.
FILES = {Shell.BASH: "dbctl.bash", Shell.ZSH: "_dbctl", Shell.FISH: "dbctl.fish"}

MARK = "generated from the command tree of dbctl"  #: what tells a file of dbctl's from one of yours


class Script(Value, frozen=True, kw_only=True):
    """Answer of ``completions show``."""

    shell: str
    script: str


class Installed(Value, frozen=True, kw_only=True):
    """Answer of ``completions install``."""

    shell: str
    path: Path
    changed: bool  #: False: the file was there already, as it should be
    next: str


@app.command()
def show(ctx: typer.Context, shell: Annotated[Shell, typer.Argument(help="The shell.")]) -> int:
    """Print the completion file of a shell."""
    script = (shipped("completions") / FILES[shell]).read_text(encoding="utf-8")
    if call(ctx).output is Format.TABLE:
        streams.write(script, utf8=True)
        return 0
    return emit(ctx, Script(shell=shell, script=script))


@app.command()
def install(
    ctx: typer.Context,
    shell: Annotated[Shell | None, typer.Argument(help="The shell; else the one of $SHELL.")] = None,
) -> int:
    """Write the completion file where the shell looks for it."""
    shell = shell or _own_shell()
    script = (shipped("completions") / FILES[shell]).read_text(encoding="utf-8")
    path = _place(shell)
    return emit(ctx, Installed(shell=shell, path=path, changed=_put(path, script), next=_next(shell, path)))


def _own_shell() -> Shell:
    name = Path(os.environ.get("SHELL", "")).name
    if name not in set(Shell):
        raise UsageError(detail=f"$SHELL is {name!r}; say which shell: {', '.join(Shell)}")
    return Shell(name)


def _place(shell: Shell) -> Path:
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    bash = Path(os.environ.get("BASH_COMPLETION_USER_DIR") or data / "bash-completion")
    return {
        Shell.BASH: bash / "completions/dbctl",
        Shell.ZSH: data / "zsh/site-functions/_dbctl",
        Shell.FISH: config / "fish/completions/dbctl.fish",
    }[shell]


def _next(shell: Shell, path: Path) -> str:
    return {
        Shell.BASH: f"Open a new shell. Without the package bash-completion, add to ~/.bashrc: source '{path}'",
        Shell.ZSH: f"Add to ~/.zshrc, before compinit: fpath=('{path.parent}' $fpath)",
        Shell.FISH: "Open a new shell.",
    }[shell]


def _put(path: Path, script: str) -> bool:
    try:
        if path.exists():
            found = path.read_text(encoding="utf-8", errors="replace")
            if found == script:
                return False
            if MARK not in found:
                raise FileExistsAlreadyError(path=path, instead="It is not dbctl's; move it away first.")
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileFailedError(path=path, reason=error.strerror) from error
    with written_whole(path, mode=0o644, replace=True) as file:
        file.write(script)
    return True

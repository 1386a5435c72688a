"""``dbctl completions``: print and install shell completion files."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dbctl.cli._support.emit import emit
from dbctl.cli._support.group import Group
from dbctl.cli._support.parameters import install_file
from dbctl.cli._support.session import Session
from dbctl.config.environment import bundled_folder
from dbctl.errors.usage import UsageError
from dbctl.files.atomic import expand_home
from dbctl.model import NOTHING_TO_DO, Closing, Struct
from dbctl.render import streams
from dbctl.render.streams import Format
from dbctl.spec import EVERYWHERE, Example

GROUP = Group("completions", section="Automate", position=6, help="Shell completion.")


class Shell(StrEnum):
    """Shells that dbctl has a completion file for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


#: Name of the completion file for each shell.
FILES = {Shell.BASH: "dbctl.bash", Shell.ZSH: "_dbctl", Shell.FISH: "dbctl.fish"}

MARK = "generated from the command tree of dbctl"  #: marks a file that dbctl generated


class Script(Struct, frozen=True, kw_only=True):
    """Result of ``completions show``."""

    shell: str
    script: str


class Installed(Struct, frozen=True, kw_only=True):
    """Result of ``completions install``."""

    shell: str
    path: Path
    changed: bool  #: False: the file was already up to date
    next: str

    @property
    def closing(self) -> Closing:
        return Closing(f"Installed {self.path}") if self.changed else NOTHING_TO_DO


@Example("completions show bash", on=EVERYWHERE)
@Example("completions show zsh > /usr/local/share/zsh/site-functions/_dbctl")
@GROUP.command("show", answers=lambda: (Script,))
def show(session: Session, shell: Annotated[Shell, typer.Argument(help="Shell.")]) -> int:
    """Print the completion file of a shell."""
    script = (bundled_folder("completions") / FILES[shell]).read_text(encoding="utf-8")
    if session.options.output is Format.TABLE:
        streams.write(script, utf8=True)
        return 0
    return emit(session, Script(shell=shell, script=script))


@Example("completions install zsh", on=EVERYWHERE)
@Example("completions install")
@GROUP.command("install", answers=lambda: (Installed,), only_answers=False)
def install(
    session: Session,
    shell: Annotated[Shell | None, typer.Argument(help="Shell; default: the one of $SHELL.")] = None,
) -> int:
    """Install the completion file of a shell for the current user."""
    shell = shell or _detect_shell()
    script = (bundled_folder("completions") / FILES[shell]).read_text(encoding="utf-8")
    path = _install_path(shell)
    return emit(
        session,
        Installed(
            shell=shell, path=path, changed=install_file(path, script, MARK), next=_next_step(shell, path)
        ),
    )


def _detect_shell() -> Shell:
    name = Path(os.environ.get("SHELL", "")).name
    if name not in set(Shell):
        raise UsageError(detail=f"$SHELL is {name!r}; pass one of {', '.join(Shell)}")
    return Shell(name)


def _install_path(shell: Shell) -> Path:
    data = expand_home(os.environ.get("XDG_DATA_HOME") or "~/.local/share")
    config = expand_home(os.environ.get("XDG_CONFIG_HOME") or "~/.config")
    bash = Path(os.environ.get("BASH_COMPLETION_USER_DIR") or data / "bash-completion")
    return {
        Shell.BASH: bash / "completions/dbctl",
        Shell.ZSH: data / "zsh/site-functions/_dbctl",
        Shell.FISH: config / "fish/completions/dbctl.fish",
    }[shell]


def _next_step(shell: Shell, path: Path) -> str:
    return {
        Shell.BASH: f"Open a new shell. Without the package bash-completion, add to ~/.bashrc: source '{path}'",
        Shell.ZSH: f"Add to ~/.zshrc, before compinit: fpath=('{path.parent}' $fpath)",
        Shell.FISH: "Open a new shell.",
    }[shell]

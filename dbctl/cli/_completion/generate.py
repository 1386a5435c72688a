"""Completion files for shells, made from the command tree, so that completing starts no Python.

``python -m dbctl.cli._completion.generate`` writes them into ``completions/``, and the help of ``dbctl`` itself next to this file.
"""

from __future__ import annotations

from pathlib import Path

from typer.main import get_group

from dbctl.cli._completion.fish import fish
from dbctl.cli._completion.shells import bash, zsh
from dbctl.cli._completion.tree import tree
from dbctl.cli._support.options import share
from dbctl.cli.completions import FILES
from dbctl.cli.main import app
from dbctl.config import shipped

#: What ``dbctl --help`` prints without importing the command tree.
HELP = Path(__file__).with_name("help.txt")


def generate(shell: str) -> str:
    """Return the completion file for ``shell``, one of ``Shell``."""
    nodes, common = tree()
    return {"bash": bash, "zsh": zsh, "fish": fish}[shell](nodes, common)


def write() -> None:
    """Write every file of ``FILES`` where the shipped ones are, and the help."""
    for shell, name in FILES.items():
        (shipped("completions") / name).write_text(generate(shell), encoding="utf-8")
    HELP.write_text(root_help(), encoding="utf-8")


def root_help() -> str:
    """Return what ``dbctl --help`` prints on 80 columns."""
    root = share(get_group(app))
    ctx = root.make_context("dbctl", [], resilient_parsing=True, terminal_width=78)  # Typer's own on 80
    return root.get_help(ctx) + "\n"


if __name__ == "__main__":
    write()

"""Generate static shell completion files from the command tree, so that completion does not start Python.

``python -m tools.completion.generate`` writes them to ``completions/``, the help of ``dbctl`` to ``dbctl/cli/help.txt``, and
the names of the extensions that it contains to ``dbctl/extensions/names.txt``.
"""

from __future__ import annotations

from pathlib import Path

from dbctl.cli.completions import FILES
from dbctl.cli.main import create_root
from dbctl.config.environment import bundled_folder
from dbctl.extensions import registry
from tools.completion.fish import render_fish
from tools.completion.shells import render_bash, render_zsh
from tools.completion.tree import build_tree

#: What ``dbctl --help`` prints without importing the command tree.
HELP = Path(__file__).parents[2] / "dbctl/cli/help.txt"
NAMES = Path(registry.__file__).with_name("names.txt")


def generate(shell: str) -> str:
    """Return the completion file for ``shell``, one of ``Shell``."""
    nodes, common = build_tree()
    return {"bash": render_bash, "zsh": render_zsh, "fish": render_fish}[shell](nodes, common)


def write() -> None:
    """Write the completion files of all shells, and the help."""
    for shell, name in FILES.items():
        (bundled_folder("completions") / name).write_text(generate(shell), encoding="utf-8")
    HELP.write_text(root_help(), encoding="utf-8")
    NAMES.write_text(list_extensions(), encoding="utf-8")


def list_extensions() -> str:
    """Return the names of the extensions of dbctl itself, one in each line."""
    return "".join(f"{name}\n" for name in sorted(extension.name for extension in registry.BUILT_IN))


def root_help() -> str:
    """Return the output of ``dbctl --help`` for 80 columns."""
    root = create_root()
    # 78 is Typer's value for 80 columns.
    ctx = root.make_context("dbctl", [], resilient_parsing=True, terminal_width=78)
    return root.get_help(ctx) + "\n"


if __name__ == "__main__":
    write()

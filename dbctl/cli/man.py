"""``dbctl man``: print and install the man pages."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
import os
from pathlib import Path
from typing import Annotated

from dbctl.cli._support.emit import emit
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import argument
from dbctl.cli._support.parameters import install_file
from dbctl.cli._support.session import Session
from dbctl.config.environment import bundled_folder
from dbctl.errors.usage import HelpTopicMissingError
from dbctl.files.atomic import expand_home
from dbctl.model import NOTHING_TO_DO, Closing, Struct
from dbctl.render import streams
from dbctl.render.streams import Format
from dbctl.spec import EVERYWHERE, Example

GROUP = Group("man", section="Automate", position=7, help="Man pages.")

MARK = "Generated from the command tree of dbctl."  #: marks a page that dbctl generated


class ManPage(Struct, frozen=True, kw_only=True):
    """Result of ``man show``."""

    name: str
    source: str


class PagesInstalled(Struct, frozen=True, kw_only=True):
    """Result of ``man install``."""

    path: Path
    pages: int
    changed: int  #: 0: all pages were already up to date
    next: str

    @property
    def closing(self) -> Closing:
        if not self.changed:
            return NOTHING_TO_DO
        return Closing(f"Installed {self.pages} man pages in {self.path}")


@Example("man show | man -l -")
@Example("man show backup > dbctl-backup.1", on=EVERYWHERE)
@GROUP.command("show", answers=lambda: (ManPage,))
def show(
    session: Session,
    page: Annotated[str, argument("[PAGE]", "A group of commands, such as backup, or dbctl.toml.")] = "dbctl",
) -> int:
    """Print the source of a man page."""
    pages = {path.stem: path for path in _list_pages()}
    path = pages.get(page) or pages.get(f"dbctl-{page.replace(' ', '-')}")
    if path is None:
        names = [name.removeprefix("dbctl-") for name in pages]
        raise HelpTopicMissingError(name=page, names=", ".join(names), candidates=names)
    source = path.read_text(encoding="utf-8")
    if session.options.output is Format.TABLE:
        streams.write(source, utf8=True)
        return 0
    return emit(session, ManPage(name=path.stem, source=source))


@Example("man install", on=EVERYWHERE)
@Example("man install --quiet")
@GROUP.command("install", answers=lambda: (PagesInstalled,), only_answers=False)
def install(session: Session) -> int:
    """Install the man pages for the current user."""
    folder = expand_home(os.environ.get("XDG_DATA_HOME") or "~/.local/share") / "man"
    pages = _list_pages()
    changes = [
        install_file(folder / f"man{path.suffix[1:]}" / path.name, path.read_text(encoding="utf-8"), MARK)
        for path in pages
    ]
    hint = f"Read them with: man dbctl. If man does not find them: export MANPATH='{folder}:'"
    return emit(session, PagesInstalled(path=folder, pages=len(pages), changed=sum(changes), next=hint))


def _list_pages() -> list[Path]:
    return sorted(bundled_folder("man").iterdir())

"""``dbctl support``: a bundle for bug reports, without secrets."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from pathlib import Path
from typing import Annotated

from dbctl.cli._support.emit import emit, note
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import option
from dbctl.cli._support.parameters import DryRun
from dbctl.cli._support.session import Session
from dbctl.model import Page
from dbctl.services.support.bundle import BundledFile, collect_files, write_bundle
from dbctl.spec import EVERYWHERE, Example

GROUP = Group(
    "support", section="Automate", position=8, help="Write an archive for a bug report, without secrets."
)


@Example("support --to report.tar.gz", on=EVERYWHERE)
@Example("support --dry-run")
@GROUP.command(answers=lambda: (Page[BundledFile],), only_answers=False, has_plan=False)
def support(
    session: Session,
    to: Annotated[Path, option("--to", "FILE", "The archive to write; it must not exist.")] = Path(
        "dbctl-support.tar.gz"
    ),
    dry_run: DryRun = False,
) -> int:
    """Write an archive for a bug report, without rows, secrets, addresses, paths and names of apps.

    It contains versions, the structure of the configuration, codes of findings and errors, states of migrations, and
    names and types of tables and columns. Nothing is sent: read the files, and attach the archive to the report.
    """
    files = collect_files(session.selection, timeout=session.options.timeout)
    if not dry_run:
        write_bundle(to, files)
    items = [
        BundledFile(name=name, bytes=len(text.encode()), content=description)
        for name, (description, text) in files.items()
    ]
    note(session, "nothing was written" if dry_run else f"wrote {to}; read it before you send it")
    page = Page(items=items, total=len(items), column_names=BundledFile.__struct_fields__)
    return emit(session, page, target=str(to))

"""``dbctl data replace``: replace a text in all tables."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from typing import TYPE_CHECKING, Annotated

from dbctl.cli._support.emit import run_change
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import argument, flag, option
from dbctl.cli._support.parameters import DryRun
from dbctl.cli._support.session import Session
from dbctl.spec import EVERYWHERE, Example, Write

if TYPE_CHECKING:
    from dbctl.extensions.copies.replace import ReplaceResult


GROUP = Group("data")


@Example("data replace https://example.com https://staging.example.com --dry-run", on=EVERYWHERE)
@Example("data replace old.example.com new.example.com --table notes --skip notes.title --yes")
@GROUP.command(
    "replace", answers=lambda: (ReplaceResult,), writes=Write(source="input", facts=("audit",), undo=True)
)
def replace(
    session: Session,
    old: Annotated[str, argument("OLD", "Text to replace; upper and lower case differ.")],
    new: Annotated[str, argument("NEW", "Text in its place; it may be empty.")],
    tables: Annotated[
        list[str] | None, option("--table", "NAME", "Change only this table; repeatable.")
    ] = None,
    skipped: Annotated[
        list[str] | None,
        option("--skip", "TABLE[.COLUMN]", "Do not change this table or column; repeatable."),
    ] = None,
    secrets: Annotated[
        bool, flag("--secrets", "Also change hashes, tokens and keys; undo cannot restore them.")
    ] = False,
    dry_run: DryRun = False,
) -> int:
    """Replace a text in all text columns of the writable databases, also inside JSON and serialized values of PHP.

    Columns of binary data (BLOB, bytea) are not searched. Lengths in serialized values are corrected. Keys of rows, names
    in serialized values and secrets are not changed, and a serialized value that cannot be read is reported.
    """
    from dbctl.extensions.copies.replace import replace_text
    from dbctl.extensions.copies.replace_rows import ReplaceRequest

    request = ReplaceRequest(old=old, new=new, tables=tables or (), skipped=skipped or (), secrets=secrets)
    with session.open_app() as app:
        return run_change(session, replace_text(app, request), dry_run=dry_run)

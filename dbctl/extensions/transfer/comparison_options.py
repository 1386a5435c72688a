"""Arguments and options of the commands that compare two databases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

from dbctl.cli._support.options import argument, flag

if TYPE_CHECKING:
    from dbctl.cli._support.session import Session
    from dbctl.extensions.transfer.comparison.schemas import Side

FirstSide: TypeAlias = Annotated[
    str, argument("A", "APP/DATABASE, APP, the address of a database, or backup:ID.")
]
SecondSide: TypeAlias = Annotated[str, argument("B", "The other side, in the same forms.")]
CheckEqual: TypeAlias = Annotated[bool, flag("--check", "Exit with 4 if there is a difference.")]


@contextmanager
def open_compared_sides(
    session: Session,
    names: Sequence[str],
    identities: Sequence[Path] | None,
    passphrase_file: Sequence[Path] | None,
    repository: str,
) -> Iterator[tuple[Side, Side]]:
    """Yield the two databases of a command; raises as ``open_sides``."""
    from dbctl.cli._support.backups import load_keys
    from dbctl.extensions.transfer.comparison.schemas import SideOptions, open_sides

    options = session.options
    side_options = SideOptions(
        selection=session.selection,
        timeout=options.timeout,
        database=options.db,
        repository=repository,
        create_keys=lambda app: load_keys(session, app, identities, passphrase_file),
    )
    with open_sides(names, side_options) as sides:
        yield sides

"""``dbctl data diff``: compare the rows of two databases."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from typing import TYPE_CHECKING, Annotated

from dbctl.cli._support.backups import Identities, PassphraseFiles
from dbctl.cli._support.emit import emit, show_progress
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import flag, option, parse_positive
from dbctl.cli._support.parameters import RepositoryAddress
from dbctl.cli._support.session import Session
from dbctl.extensions.transfer.comparison_options import (
    CheckEqual,
    FirstSide,
    SecondSide,
    open_compared_sides,
)
from dbctl.spec import EVERYWHERE, Example

if TYPE_CHECKING:
    from dbctl.extensions.transfer.comparison.rows import DataDiff


GROUP = Group("data")


@Example("data diff backup:latest {db}", on=EVERYWHERE, needs=("backup create --app {app}",))
@Example("data diff blog/main postgresql://app@localhost/staging --table users")
@GROUP.command("diff", answers=lambda: (DataDiff,))
def diff(
    session: Session,
    a: FirstSide,
    b: SecondSide,
    tables: Annotated[
        list[str] | None, option("--table", "NAME", "Compare only this table; repeatable.")
    ] = None,
    secrets: Annotated[bool, flag("--secrets", "Show hashes, tokens and keys instead of ***.")] = False,
    limit: Annotated[
        int, option("--limit", "N", "Show at most N rows of each table and change.", parse_positive)
    ] = "5",  # type: ignore[assignment]
    check: CheckEqual = False,
    identity: Identities = None,
    passphrase_file: PassphraseFiles = None,
    repository_address: RepositoryAddress = "",
) -> int:
    """Compare the rows of two databases, also of different engines: rows that only one has, and changed columns.

    A side is APP/DATABASE, APP, the address of a database, or backup:ID (backup:latest) of the other side's database. Each side
    is read in one snapshot; nothing is written, and a backup is restored into a temporary database.
    """
    from dbctl.extensions.transfer.comparison.rows import DataComparison

    with open_compared_sides(session, (a, b), identity, passphrase_file, repository_address) as (
        first,
        second,
    ):
        with show_progress(session, "Comparing rows", None, unit="rows"):
            comparison = DataComparison(first, second, tables=tables or (), limit=limit, secrets=secrets)
            result = comparison.run()
        return emit(session, result, status=result.status if check else 0, target=first.name)

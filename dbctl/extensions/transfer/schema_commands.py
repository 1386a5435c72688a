"""``dbctl schema diff``: compare the schemas of two databases."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from typing import TYPE_CHECKING

from dbctl.cli._support.backups import Identities, PassphraseFiles
from dbctl.cli._support.emit import emit, note
from dbctl.cli._support.group import Group
from dbctl.cli._support.parameters import RepositoryAddress
from dbctl.cli._support.session import Session
from dbctl.extensions.transfer.comparison_options import (
    CheckEqual,
    FirstSide,
    SecondSide,
    open_compared_sides,
)
from dbctl.spec import Example

if TYPE_CHECKING:
    from dbctl.extensions.transfer.comparison.schemas import SchemaDiff


GROUP = Group("schema")


@Example("schema diff blog/main postgresql://app@localhost/staging")
@Example("schema diff backup:latest blog/main --check")
@GROUP.command("diff", answers=lambda: (SchemaDiff,))
def diff(
    session: Session,
    a: FirstSide,
    b: SecondSide,
    check: CheckEqual = False,
    identity: Identities = None,
    passphrase_file: PassphraseFiles = None,
    repository_address: RepositoryAddress = "",
) -> int:
    """Compare the schemas of two databases; of different engines, as far as both can have the same.

    A side is APP/DATABASE, APP, the address of a database, backup:ID (backup:latest) of the other side's database, or migrations: the
    schema that all migrations of the other side create.
    """
    from dbctl.extensions.transfer.comparison.schemas import compare_schemas

    with open_compared_sides(session, (a, b), identity, passphrase_file, repository_address) as (
        first,
        second,
    ):
        result = compare_schemas(first, second)
        for remark in result.remarks:
            note(session, remark)
        return emit(session, result, status=result.status if check else 0, target=first.name)

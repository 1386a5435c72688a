"""``dbctl restore recover``: salvage a damaged file."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from msgspec import structs

from dbctl.cli._support.backups import Identities, PassphraseFiles, load_keys
from dbctl.cli._support.emit import run_change, show_progress
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import flag, option
from dbctl.cli._support.parameters import DryRun
from dbctl.cli._support.session import Session
from dbctl.errors.usage import ConfigMissingError
from dbctl.spec import EVERYWHERE, Example

if TYPE_CHECKING:
    from dbctl.extensions.salvage.operation import DatabaseSalvageResult

GROUP = Group("restore", checks_profile=False)


@Example("restore recover --force --to salvaged.db", on=EVERYWHERE)
@Example("restore recover --from damaged.db --to salvaged.db --dry-run")
@GROUP.command("recover", answers=lambda: (DatabaseSalvageResult,), recorded=True)
def recover(
    session: Session,
    to: Annotated[Path | None, option("--to", "FILE", "New file; default: next to the damaged one.")] = None,
    source: Annotated[
        Path | None, option("--from", "FILE", "Salvage this file instead of the app's database.")
    ] = None,
    reference: Annotated[
        str,
        option(
            "--reference",
            "FILE|ID",
            "Take the definitions of lost tables from a valid database of the same schema, or from a backup (id or latest).",
        ),
    ] = "",
    force: Annotated[bool, flag("--force", "Also read a database without damage.")] = False,
    identity: Identities = None,
    passphrase_file: PassphraseFiles = None,
    dry_run: DryRun = False,
) -> int:
    """Salvage the readable rows of a damaged SQLite database into a new file.

    The damaged file and the app's database remain unchanged: the output describes how to replace the database,
    and how many rows of each table were salvaged. Exit 4 if data is lost.
    """
    from dbctl.extensions.salvage.operation import SalvageDatabase, open_reference

    selection = session.selection
    if source and to and not (selection.profile or selection.urls or selection.configured):
        from dbctl.config import loader

        try:
            loader.config_path(selection)
        except ConfigMissingError:  # the files name everything
            selection = structs.replace(selection, profile="plain", urls=[f"main={source}"])
    with (
        session.open_app(selection) as app,
        open_reference(
            app, reference, app.only or app.main_database, load_keys(session, app, identity, passphrase_file)
        ) as reference_database,
    ):
        operation = SalvageDatabase(
            app,
            selection,
            to=to,
            source=source,
            reference=reference_database,
            reference_name=reference,
            force=force,
        )
        with show_progress(session, "recovering", 100, unit="%"):
            return run_change(session, operation, dry_run=dry_run)

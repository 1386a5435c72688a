"""``dbctl transfer``: move a database to another engine."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

from dbctl.cli._support.backups import Roles, load_keys, parse_roles, run_with_progress
from dbctl.cli._support.emit import emit, run_change, show_progress, warn
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import flag, option
from dbctl.cli._support.parameters import DryRun, MigrationsFolder, Variant
from dbctl.cli._support.session import Session
from dbctl.errors.usage import UsageError
from dbctl.extensions.transfer.endpoints import Endpoints
from dbctl.extensions.transfer.schema import SchemaOptions
from dbctl.render.streams import Format
from dbctl.spec import EVERYWHERE, Example, Write

if TYPE_CHECKING:
    from dbctl.extensions.transfer.plan import TransferPlan
    from dbctl.extensions.transfer.run import TransferResult, TransferVerification
    from dbctl.extensions.transfer.switch import SwitchResult, UnlockResult
    from dbctl.extensions.transfer.upgrade import UpgradeResult


GROUP = Group("transfer", section="Schema", position=4, help="Move a database to another engine or server.")

To: TypeAlias = Annotated[
    str, option("--to", "URL", "The address of the destination: sqlite:///FILE, postgresql://… or mysql://…")
]
Unlock: TypeAlias = Annotated[
    bool, flag("--unlock", "Let the source accept writes again, instead of switching, to return to it.")
]
Derive: TypeAlias = Annotated[
    bool,
    flag(
        "--derive", "Derive the tables from the source, although the app has migrations for the destination."
    ),
]


@Example("transfer plan --to moved.db", on=EVERYWHERE)
@Example("transfer plan --to postgresql://app@localhost/app -o json")
@GROUP.command("plan", answers=lambda: (TransferPlan,))
def plan(
    session: Session,
    to: To,
    derive: Derive = False,
    migrations: MigrationsFolder = None,
    variant: Variant = "",
) -> int:
    """Show which tables a transfer copies, how values are converted, and values that do not fit; exit 4 if there are any.

    A derived schema is shown as statements, with the parts of the source that they omit. Every row of the source is read.
    Nothing is changed.
    """
    from dbctl.extensions.transfer.plan import plan_transfer

    with _open_endpoints(session, to) as endpoints:
        result = plan_transfer(endpoints, _schema_options(derive, migrations, variant))
        output = session.output_options
        if output.format is not Format.TABLE or output.columns:  # a complete table contains the remarks
            for remark in result.remarks:
                warn(session, remark)
        return emit(session, result, status=result.status)


@Example("transfer run --to moved.db --dry-run", on="flashpoint-web")
@Example("transfer run --to postgresql://app@localhost/app")
@GROUP.command("run", answers=lambda: (TransferResult,), writes=Write(source="generated", is_selected=False))
def run(
    session: Session,
    to: To,
    derive: Derive = False,
    migrations: MigrationsFolder = None,
    variant: Variant = "",
    dry_run: DryRun = False,
) -> int:
    """Copy a database into an empty one, or into new tables of the app, on any engine, and compare the content of each table.

    The source is only read, in one snapshot, and the app may continue to write to it. An interrupted copy continues
    when the command runs again. Then stop the app, and run dbctl transfer switch.
    """
    from dbctl.extensions.transfer.run import RunTransfer

    with _open_endpoints(session, to) as endpoints, show_progress(session, "copying", None, unit="rows"):
        options = _schema_options(derive, migrations, variant)
        operation = RunTransfer(endpoints, options)
        return run_change(session, operation, dry_run=dry_run)


@Example("transfer verify --to postgresql://app@localhost/app")
@Example("transfer verify --to sqlite:///srv/app/app.db -o json")
@GROUP.command(
    "verify", answers=lambda: (TransferVerification,), writes=Write(source="generated", audited=False)
)
def verify(session: Session, to: To) -> int:
    """Compare each table of both databases by count, digest and key; exit 4 if a table differs or a sequence is behind its rows.

    After the switch, the command also inserts and deletes a copy of a row in each table with generated keys of the destination,
    and rolls it back: exit 4 if a table refuses it. So it does with a new user, whom it adds as dbctl users create does.
    """
    from dbctl.extensions.transfer.run import verify_transfer

    with _open_endpoints(session, to) as endpoints, show_progress(session, "comparing", None, unit="rows"):
        result = verify_transfer(endpoints)
    for remark in result.remarks:
        warn(session, remark)
    return emit(session, result, status=result.status)


@Example("transfer switch --to postgresql://app@localhost/app --yes")
@Example("transfer switch --unlock")
@GROUP.command(
    "switch",
    answers=lambda: (SwitchResult, UnlockResult),
    writes=Write(source="generated", is_selected=False),
)
def switch(session: Session, to: To = "", unlock: Unlock = False, dry_run: DryRun = False) -> int:
    """Make the source refuse writes, copy what changed since the copy, compare all tables again, and end the transfer.

    Changes in the destination since the copy are lost. The source keeps its rows: it is the way back. It accepts writes again
    if the command fails, or with --unlock.
    """
    if bool(to) == unlock:
        raise UsageError(detail="pass either --to or --unlock")
    from dbctl.extensions.transfer.switch import SwitchTransfer, UnlockSource

    if unlock:
        with session.open_app() as opened:
            return run_change(session, UnlockSource(opened), dry_run=dry_run)
    with _open_endpoints(session, to) as endpoints, show_progress(session, "comparing", None, unit="rows"):
        return run_change(session, SwitchTransfer(endpoints), dry_run=dry_run)


@Example("transfer upgrade --to docker:new --dry-run")
@Example("transfer upgrade --to postgresql://postgres@localhost:5433")
@GROUP.command(
    "upgrade", answers=lambda: (UpgradeResult,), writes=Write(source="generated", is_selected=False)
)
def upgrade(
    session: Session,
    to: Annotated[
        str,
        option(
            "--to",
            "SERVER|docker:NAME",
            "The new server, without a database: postgresql://USER@HOST:PORT or mysql://…; or its container.",
        ),
    ],
    roles: Roles = None,
    dry_run: DryRun = False,
) -> int:
    """Copy the databases of an app to another server of the same engine, such as one of a newer major version.

    They are dumped, created on the new server with their owners, grants, roles and passwords of roles, and compared by row, object
    and sequence; exit 4 if something differs. The old server is only read: stop the app first, so that it writes nothing
    during the copy, and start it with the printed address.
    """
    from dbctl.extensions.transfer.upgrade import UpgradeServer, find_server
    from dbctl.services.restore.source import open_live_source

    with session.open_app() as opened:
        server = find_server(opened, to)
        policy = parse_roles(roles or ["create"])
        keys, creates_roles = load_keys(session, opened, None, None), policy.missing == "create"
        with open_live_source(opened, keys, policy, secrets=creates_roles) as source:
            return run_with_progress(session, "copying", UpgradeServer(source, server), dry_run=dry_run)


@contextmanager
def _open_endpoints(session: Session, to: str) -> Iterator[Endpoints]:
    """Yield the source and the destination of a transfer."""
    from dbctl.config import loader

    with session.open_app() as opened:
        urls = list(loader.parse_urls([to], Path.cwd(), option="--to").values())
        yield Endpoints(opened, urls[0])


def _schema_options(derive: bool, migrations: Path | None, variant: str) -> SchemaOptions:
    if derive and (migrations or variant):
        raise UsageError(detail="--derive cannot be combined with --migrations or --variant")
    return SchemaOptions(is_derived=derive, migrations=migrations, variant=variant)

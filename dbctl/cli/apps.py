"""``dbctl apps``: configured apps and their profiles."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

from msgspec import structs

from dbctl.cli._support.emit import emit, note, run_change, warn
from dbctl.cli._support.group import Group
from dbctl.cli._support.hooks import create_hook_context
from dbctl.cli._support.options import argument
from dbctl.cli._support.parameters import DryRun
from dbctl.cli._support.session import Session
from dbctl.config import loader
from dbctl.errors.base import Exit, Remedy
from dbctl.model import Findings, Page
from dbctl.services import profiles
from dbctl.spec import EVERYWHERE, Example, Fleet

if TYPE_CHECKING:
    from dbctl.services.hooks.maintenance_mode import MaintenanceChanged


GROUP = Group("apps", section="Set up", position=3, help="Configured apps and their profiles.")


class MaintenanceSwitch(StrEnum):
    """The state of the maintenance mode."""

    ON = "on"
    OFF = "off"


@Example("apps list -o json", on=EVERYWHERE)
@Example("apps list --columns name,profile")
@GROUP.command("list", answers=lambda: (Page[profiles.AppListed],))
def list_(session: Session) -> int:
    """List the configured apps and their databases."""
    apps = profiles.list_apps(session.selection)
    for error in apps.failed:
        warn(session, str(error))
    return emit(session, apps.page, status=apps.status)


@Example("apps show --app {app}", on=EVERYWHERE)
@Example("apps show flashpoint-web")
@GROUP.command("show", answers=lambda: (profiles.ProfileShown,))
def show_(
    session: Session,
    profile: Annotated[
        str, argument("[PROFILE]", "Name or file of a profile; default: the profile of the app.")
    ] = "",
) -> int:
    """Show the profile of an app: databases, features, searches."""
    if profile:
        return emit(session, profiles.show_profile(profile))
    app_config = loader.find_app(session.selection, allow_fleet=True)
    return emit(session, profiles.show_profile(app_config.profile, app_config))


@Example("apps maintenance on", on="samples")
@Example("apps maintenance off --app shop")
@GROUP.command("maintenance", answers=lambda: (MaintenanceChanged,), recorded=True)
def maintenance(
    session: Session,
    state: Annotated[MaintenanceSwitch, argument("on|off", "Whether to turn it on or off.")],
    dry_run: DryRun = False,
) -> int:
    """Turn the maintenance mode of an app on, or off after dbctl was killed, with the configured programs.

    A restore or a migration turns it on and off itself; if it is on already, it stays on. Exit 11 while such a run
    has turned it on.
    """
    from dbctl.services.hooks.maintenance_mode import ChangeMaintenanceMode

    configured = loader.find_app(session.selection)
    operation = ChangeMaintenanceMode(
        configured,
        create_hook_context(session, configured, "maintenance"),
        is_on=state is MaintenanceSwitch.ON,
        timeout=session.options.timeout,
    )
    return run_change(session, operation, dry_run=dry_run)


@Example("apps check --app {app}", on=EVERYWHERE)
@Example("apps check profiles/shop.toml")
@GROUP.command("check", answers=lambda: (Findings,), recorded=True, findings=True, fleet=Fleet(resumes=True))
def check(
    session: Session,
    file: Annotated[
        str, argument("[FILE]", "Check only this profile file; default: the whole configuration.")
    ] = "",
) -> int:
    """Check the configuration, the profiles, and whether the live databases match them.

    List every error with its line and key. Exit 2 if a file has an error, 4 if a live database lacks what its
    profile requires.
    """
    selection = session.selection
    if file:
        selection = structs.replace(selection, profile=file)
    files = profiles.check_files(selection, selection.profile)
    if files.has_errors or (file and not selection.urls):
        return emit(session, files, status=Exit.USAGE if files.has_errors else Exit.OK)
    if selection.app or selection.profile:
        names = [selection.app]
    else:
        apps = loader.load(selection).apps
        names = [name for name in apps if not apps[name].is_fleet]
        for name in apps.keys() - set(names):
            note(
                session,
                Remedy("{name} is a fleet; check its databases with: `apps check`").write(
                    name, {"name": name}
                ),
            )
    live_results: list[Findings] = []
    for name in names:
        from dbctl.services.checks.run import check_live

        with session.open_app(structs.replace(selection, app=name)) as app:
            live_results.append(check_live(app))
    findings = [*files.findings, *(finding for result in live_results for finding in result.findings)]
    combined = Findings(
        checked=files.checked + sum(result.checked for result in live_results), findings=findings
    )
    return emit(session, combined, status=combined.status)

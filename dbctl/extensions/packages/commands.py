"""``dbctl profiles install``, ``update`` and ``uninstall``: profiles from a file or an address."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from typing import Annotated, TypeAlias

from dbctl.cli._support.emit import emit, run_change
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import argument, flag, option
from dbctl.cli._support.parameters import DryRun
from dbctl.cli._support.session import Session
from dbctl.config import loader
from dbctl.errors.base import DbctlError
from dbctl.extensions.packages import operations
from dbctl.extensions.packages.errors import ProfileInUseError
from dbctl.extensions.packages.sources import read_package
from dbctl.spec import Example

GROUP = Group("profiles")

Digest: TypeAlias = Annotated[
    str, option("--sha256", "HEX", "SHA-256 that the file must have; an address requires it.")
]
System: TypeAlias = Annotated[
    bool, flag("--system", "In the configuration directory of the system, for all users of this machine.")
]
Name: TypeAlias = Annotated[str, argument("NAME", "Name of the installed profile.")]


@Example("profiles install shop.toml --dry-run")
@Example("profiles install https://example.org/shop.toml --sha256 9f2c7a41d0e8b365…")
@GROUP.command("install", answers=lambda: (operations.ProfilePlaced,), recorded=True, only_answers=False)
def install(
    session: Session,
    source: Annotated[str, argument("FILE|URL", "A file, or an address with https://.")],
    sha256: Digest = "",
    system: System = False,
    shadow: Annotated[
        bool,
        flag(
            "--shadow", "Use it in place of a profile of the system, or of an extension, with the same name."
        ),
    ] = False,
    dry_run: DryRun = False,
) -> int:
    """Install a profile, so that commands find it by its name.

    It is checked first: an invalid profile, one whose queries could change or run something, and one with the name of a
    built-in profile is refused. profiles list shows its source and its digest.
    """
    package = read_package(source, sha256)
    operation = operations.InstallProfile(package, operations.find_folder(system=system), shadow=shadow)
    return run_change(session, operation, dry_run=dry_run)


@Example("profiles update shop --diff")
@Example("profiles update shop shop.toml --yes")
@GROUP.command(
    "update",
    answers=lambda: (operations.ProfilePlaced, operations.ProfileDifference),
    recorded=True,
    only_answers=False,
)
def update(
    session: Session,
    name: Name,
    source: Annotated[
        str, argument("[FILE|URL]", "Another source; default: the one from which it was installed.")
    ] = "",
    sha256: Digest = "",
    system: System = False,
    diff: Annotated[bool, flag("--diff", "Only show the keys that differ.")] = False,
    dry_run: DryRun = False,
) -> int:
    """Replace an installed profile by the present text of its source, after a confirmation of the keys that differ."""
    folder = operations.find_folder(system=system)
    package = read_package(source or operations.require_record(name, folder).source, sha256)
    operation = operations.UpdateProfile(name, package, folder)
    if diff:
        return emit(session, operation.difference)
    return run_change(session, operation, dry_run=dry_run)


@Example("profiles uninstall shop --dry-run")
@Example("profiles uninstall shop --yes")
@GROUP.command("uninstall", answers=lambda: (operations.ProfilePlaced,), recorded=True, only_answers=False)
def uninstall(session: Session, name: Name, system: System = False, dry_run: DryRun = False) -> int:
    """Delete an installed profile that no app of the configuration uses."""
    operation = operations.UninstallProfile(name, operations.find_folder(system=system))
    try:
        apps = [app.name for app in loader.load(session.selection).apps.values() if app.profile == name]
    except DbctlError:  # without a configuration, no app uses it
        apps = []
    if apps:
        raise ProfileInUseError(name=name, apps=", ".join(apps))
    return run_change(session, operation, dry_run=dry_run)

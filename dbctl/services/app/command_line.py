"""Command lines that run dbctl on the same app again: for crontabs and for hints."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from dbctl.config import loader, model
from dbctl.config.sections import Selection
from dbctl.errors.base import DbctlError, Invocation
from dbctl.extensions import registry
from dbctl.url import Url


def program_command() -> Sequence[str]:
    """Return the command that runs this installation of dbctl from any directory and with any PATH."""
    for script in (Path(sys.argv[0]), Path(sys.executable).with_name("dbctl")):
        if script.name == "dbctl" and os.path.isfile(script) and os.access(script, os.X_OK):
            return [os.path.abspath(script)]  # noqa: PTH100 - pipx links scripts; the link is stable, its target moves
    return [sys.executable, "-m", "dbctl"]


def typed_command() -> Sequence[str]:
    """Return ``dbctl`` if the PATH leads to this installation, otherwise the full command."""
    command, installed = program_command(), shutil.which("dbctl")
    return ["dbctl"] if installed and len(command) == 1 and Path(installed).samefile(command[0]) else command


def app_options(selection: Selection, app: model.App) -> Sequence[str]:
    """Return the options that select ``app`` from any directory and with any environment."""
    if _needs_no_config(selection):
        return _other_options(selection, app)
    return [*config_options(selection), *_other_options(selection, app)]


def config_options(selection: Selection) -> Sequence[str]:
    """Return the options that select all apps of the configuration from any directory."""
    return ["--config", os.path.abspath(loader.config_path(selection))]  # noqa: PTH100 - a link stays, its target may move


def describe_invocation(
    selection: Selection, app: str = "", database: str = "", options: Mapping[str, str] = {}
) -> Invocation:
    """Return what the command lines of hints repeat, so that the user can run them in the same directory.

    They contain ``--config`` only if the user passed it.

    ``app`` is the opened one, by default that of the options; ``database`` is the only one that the user selected; ``options``
    are those of ``Invocation``.
    """
    return Invocation(
        program=shlex.join(typed_command()),
        config=shlex.join(config_options(selection)) if selection.config else "",
        app=app or selection.app,
        selects_app=bool(selection.app or not _needs_no_config(selection)),
        others=shlex.join(_describe_app(selection)),
        database=shlex.join(["--db", database]) if database else "",
        options=options,
        absent=[*registry.list_absent()],
    )


def _needs_no_config(selection: Selection) -> bool:
    """Whether the options describe an app without any configuration."""
    return bool(selection.profile and selection.urls)


def _other_options(selection: Selection, app: model.App) -> Sequence[str]:
    options = _describe_app(selection)
    return options if _needs_no_config(selection) and not selection.app else [*options, "--app", app.name]


def _describe_app(selection: Selection) -> Sequence[str]:
    """Return the options that describe an app, instead of the configuration or in addition to it."""
    profile = (
        str(Path(selection.profile).resolve()) if selection.profile.endswith(".toml") else selection.profile
    )
    urls = dict[str, Url]()
    with suppress(DbctlError):  # an invalid URL is the reason of the hint
        urls = loader.parse_urls(selection.urls, Path.cwd())
    options = ["--profile", profile] if profile else []
    return [
        *options,
        *(option for name, url in urls.items() for option in ("--url", f"{name}={url.command_text}")),
    ]


def command_for_owner(owner: int, arguments: Sequence[str]) -> str:
    """Return the command line that runs a command with the permissions of ``owner``, with sudo if required."""
    is_permitted = os.geteuid() in (0, owner)
    return shlex.join(arguments if is_permitted else ["sudo", *arguments])

"""The words that call dbctl again on the same app: for a crontab, and for a remedy that is copied."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from dbctl.config import Selection, loader, model
from dbctl.files import is_regular


def program() -> Sequence[str]:
    """Return the words that call the dbctl that runs now, from any directory and with any PATH."""
    for script in (Path(sys.argv[0]), Path(sys.executable).with_name("dbctl")):
        if script.name == "dbctl" and is_regular(script) and os.access(script, os.X_OK):
            return [os.path.abspath(script)]  # noqa: PTH100 - a link such as pipx makes stays, its target moves
    return [sys.executable, "-m", "dbctl"]


def typed() -> Sequence[str]:
    """Return the words by which a person calls it here: short, where the PATH leads to it."""
    words, found = program(), shutil.which("dbctl")
    return ["dbctl"] if found and len(words) == 1 and Path(found).samefile(words[0]) else words


def options(said: Selection, app: model.App) -> Sequence[str]:
    """Return the options that mean ``app`` from any directory and with any environment."""
    if _alone(said):
        return _further(said, app)
    return ["--config", os.path.abspath(loader.path(said)), *_further(said, app)]  # noqa: PTH100 - as above


def remedy(said: Selection, app: model.App, *command: str) -> Sequence[str]:
    """Return the words of a command for ``app``, for one who copies them where the answer was given.

    The configuration is named only where it was: elsewhere it is found again.
    """
    return [*typed(), *command, *(options(said, app) if said.config else _further(said, app))]


def _alone(said: Selection) -> bool:
    """Whether the options describe an app without any configuration."""
    return bool(said.profile and said.urls)


def _further(said: Selection, app: model.App) -> Sequence[str]:
    profile = str(Path(said.profile).resolve()) if said.profile.endswith(".toml") else said.profile
    urls = {name: app.databases[name] for name in loader.given(said.urls, Path.cwd())}
    words = ["--profile", profile] if profile else []
    words += [word for name, url in urls.items() for word in ("--url", f"{name}={url}")]
    return words if _alone(said) and not said.app else [*words, "--app", app.name]

"""The configuration of an app on the machine that has its files: what dbctl there needs, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

from dbctl.config.model import STATE_OFF
from dbctl.config.secrets import read_pepper
from dbctl.files import toml
from dbctl.profiles import loader

if TYPE_CHECKING:
    from dbctl.cli._support.session import Session
    from dbctl.services.app.app import App
    from dbctl.url import Url

_PROFILE, _PEPPER = "profile.toml", "pepper"


def list_files(session: Session, app: App) -> Mapping[str, str]:
    """Return the texts of the files by their names: the configuration, and what it refers to.

    Raises:
        PepperMissingError: the secret that the app appends to passwords is configured, and cannot be read.
    """
    configured, files = app.configured, dict[str, str]()
    section: dict[str, str | bool] = {"profile": configured.profile, "protected": configured.protected}
    if not loader.find_profile(configured.profile):
        section["profile"] = f"./{_PROFILE}"
        files[_PROFILE] = toml.read_text(loader.path_of(configured.profile))
    if configured.require:
        section["require"] = configured.require
    if configured.prefix is not None:
        section["prefix"] = configured.prefix
    if configured.pepper_file or configured.pepper_env:
        section["pepper_file"] = _PEPPER
        files[_PEPPER] = read_pepper(configured).reveal()
    audit = session.journal.audit
    tables: dict[str, Mapping[str, str | bool | int]] = {
        f"apps.{toml.quoted(app.name)}": section,
        f"apps.{toml.quoted(app.name)}.databases": {
            name: _write_address(url) for name, url in configured.databases.items()
        },
        "audit": {"required": audit.required, "values": audit.values, "max_rows": audit.max_rows},
    }
    if configured.state == STATE_OFF:
        tables["journal"] = {"folder": STATE_OFF}
    files["dbctl.toml"] = "\n".join(
        line for name, table in tables.items() for line in (f"[{name}]", *map(_write_key, table.items()))
    )
    return files


def _write_key(item: tuple[str, str | bool | int]) -> str:
    name, value = item
    text = toml.quoted(value, value=True) if isinstance(value, str) else str(value).lower()
    return f"{toml.quoted(name)} = {text}"


def _write_address(url: Url) -> str:
    """Return the address without its route; a relative path begins in the home of the login, and nothing in it is a variable."""
    path = url.path if url.path.startswith(("/", "~/")) else f"~/{url.path}"
    return f"{url.engine}:{quote(path)}"

"""Demonstrations by real applications: the states of their databases before and after one action (``pairs/README.md``)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests import servers

FOLDER = Path(__file__).with_name("pairs")
APPS = (
    "mlflow",
    "label-studio",
    "calibre-web",
    "pgadmin4",
    "strapi",
    "superset",
    "directus",
    "n8n",
    "synapse",
    "ghost",
    "umami",
    "uptime-kuma",
)
ENGINES = ("sqlite", "postgresql", "mysql")


@dataclass(frozen=True)
class Pair:
    """One action of an application, and the states around it."""

    app: str
    number: int
    engine: str  #: one of ``ENGINES``
    name: str  #: the action, as the application calls it
    action: str | None  #: that of ``profiles learn``; None: it has none for this
    login: str
    password: str | None  #: after the action, in clear text; None: the action has none
    email: str  #: that was entered besides the login
    role: str  #: that was selected
    users: str  #: the table of users of an application with two kinds of accounts
    interface: str
    wrong: bool  #: the action failed, or more was done: nothing may be learned
    before: Sequence[Path]  #: of each database; that of the users is the first
    after: Sequence[Path]

    @property
    def words(self) -> list[str]:
        """The arguments and options of ``profiles learn`` except ``--to``, for the database of the users."""
        words = ["profiles", "learn", self.action or "", "--login", self.login, "--interface", self.interface]
        words += ["--before", str(self.before[0]), "--after", str(self.after[0])]
        for option in ("email", "role", "users"):
            words += [f"--{option}", value] if (value := getattr(self, option)) else []
        if self.password is not None:
            words.append("--password-stdin")
        return [*select_server(self.engine), *words]


def select_server(engine: str) -> list[str]:
    """Return the option with the server that loads dumps of an engine; empty: it has none."""
    server = {"postgresql": servers.postgresql, "mysql": servers.mysql}.get(engine)
    return ["--url", str(server())] if server else []


@cache
def list_pairs(app: str, engine: str = "sqlite") -> list[Pair]:
    """Return the pairs of an application on an engine in their order; each state is that before the next action."""
    entries = json.loads((FOLDER / app / "pairs.json").read_text(encoding="utf-8"))["pairs"]
    pairs = []
    for entry in entries:
        if files := entry.pop("files").get(engine):
            states = {state: [FOLDER / app / name for name in names] for state, names in files.items()}
            pairs.append(Pair(app=app, engine=engine, **entry, **states))
    return pairs


def find_pair(app: str, number: int, engine: str = "sqlite") -> Pair:
    """Return one pair."""
    return next(pair for pair in list_pairs(app, engine) if pair.number == number)

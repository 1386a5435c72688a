"""The section of the recovery in ``dbctl.toml``: where other programs archive the copies and logs of a server."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
from collections.abc import Mapping

import msgspec
from msgspec import structs

from dbctl.config.model import App
from dbctl.config.resolver import ConfigSection, Resolver

#: Of the section.
NAME = "recovery"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[apps.NAME.recovery.databases.DATABASE]``: the archive from which one database is recovered."""

    #: of PostgreSQL: the folder of a copy of the server, or of several of them; the copies of MariaDB are the backups of dbctl
    base: str = ""
    log: str = ""  #: the folder with the log of the server since the copy


class Recovery(ConfigSection, frozen=True, kw_only=True):
    """``[apps.NAME.recovery]``: what ``backup recover`` reads."""

    databases: Mapping[str, Source] = msgspec.field(default_factory=dict)  #: by their names

    def resolve(self, resolver: Resolver) -> "Recovery":
        for name, source in self.databases.items():
            if not source.log:
                resolver.report("log is required", NAME, "databases", name)
        return structs.replace(
            self, databases={name: _resolve(source, resolver) for name, source in self.databases.items()}
        )


def _resolve(source: Source, resolver: Resolver) -> Source:
    return structs.replace(
        source,
        base=resolver.resolve_file(source.base) if source.base else "",
        log=resolver.resolve_file(source.log),
    )


def find_sources(app: App) -> Mapping[str, Source]:
    """Return the archives of an app, by database."""
    section = app.extension_section(NAME, Recovery)
    return section.databases if section else {}


def records_log(app: App, database: str) -> bool:
    """Return whether backups of a database record its position in the log of its server."""
    return database in find_sources(app)

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
    #: of PostgreSQL: the stanza of a repository of pgBackRest, instead of ``base`` and ``log``
    pgbackrest: str = ""
    pgbackrest_config: str = ""  #: the configuration file of pgBackRest; default: its own


class Recovery(ConfigSection, frozen=True, kw_only=True):
    """``[apps.NAME.recovery]``: what ``backup recover`` reads."""

    databases: Mapping[str, Source] = msgspec.field(default_factory=dict)  #: by their names

    @property
    def names_program(self) -> bool:
        return any(source.pgbackrest for source in self.databases.values())

    def resolve(self, resolver: Resolver) -> "Recovery":
        for name, source in self.databases.items():
            if bool(source.log) == bool(source.pgbackrest):
                resolver.report("either log or pgbackrest is required", NAME, "databases", name)
            if source.pgbackrest and source.base:
                resolver.report(
                    "the base is in the repository of pgBackRest", NAME, "databases", name, "base"
                )
        return structs.replace(
            self, databases={name: _resolve(source, resolver) for name, source in self.databases.items()}
        )


def _resolve(source: Source, resolver: Resolver) -> Source:
    return structs.replace(
        source,
        base=resolver.resolve_file(source.base) if source.base else "",
        log=resolver.resolve_file(source.log),
        pgbackrest_config=resolver.resolve_file(source.pgbackrest_config),
    )


def find_sources(app: App) -> Mapping[str, Source]:
    """Return the archives of an app, by database."""
    section = app.extension_section(NAME, Recovery)
    return section.databases if section else {}


def records_log(app: App, database: str) -> bool:
    """Return whether backups of a database record its position in the log of its server."""
    return database in find_sources(app)

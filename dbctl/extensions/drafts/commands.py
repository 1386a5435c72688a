"""``dbctl profiles draft``: draft a profile from a database."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from pathlib import Path
from typing import Annotated

from dbctl.cli._support.emit import emit
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import argument, option
from dbctl.cli._support.session import Session
from dbctl.config import loader
from dbctl.errors.usage import DatabaseNotConfiguredError, UsageError
from dbctl.extensions.drafts.draft import ProfileDraft, draft_profile, write_draft
from dbctl.render import streams
from dbctl.render.streams import Format
from dbctl.spec import Example
from dbctl.url import Url

GROUP = Group("profiles")


@Example("profiles draft /srv/app/app.db --to app.toml")
@Example("profiles draft /srv/app/app.db --users admins --to admins.toml")
@GROUP.command("draft", answers=lambda: (ProfileDraft,))
def draft(
    session: Session,
    address: Annotated[
        str,
        argument(
            "[URL]", "Database: a path, or an address of a server; default: the database of --url or --app."
        ),
    ] = "",
    name: Annotated[
        str, option("--name", "NAME", "Name of the profile; default: the name of the database.")
    ] = "",
    users: Annotated[
        str, option("--users", "TABLE", "The table of users; default: the one that looks most like it.")
    ] = "",
    to: Annotated[
        Path | None, option("--to", "FILE", "Write the profile to this new file; default: standard output.")
    ] = None,
) -> int:
    """Draft a profile from the schema and some rows of a database.

    Each line has its evidence as a comment. What the database does not show is a comment with the candidates, and is
    listed at the beginning. Only a few rows of each table are read, and nothing is written to the database.
    """
    options = session.options
    url = _read_address(address) if address else _find_configured(session, options.db)
    result = draft_profile(url, name=name, users=users, timeout=options.timeout)
    if to:
        result = write_draft(result, to)
    elif options.output is Format.TABLE:
        streams.write(result.profile, utf8=True)
        return 0
    return emit(session, result)


def _read_address(text: str) -> Url:
    urls = loader.parse_urls([text], Path.cwd())
    if list(urls) != ["main"]:
        raise UsageError(detail=f"{text!r}: write only the address of the database, without a name")
    return urls["main"]


def _find_configured(session: Session, database: str) -> Url:
    """Return the address of the database that ``--url``, or ``--app`` and ``--db`` select."""
    configured = loader.find_app(session.selection)
    urls = {name: url for name, url in configured.databases.items() if database in ("", name)}
    if not urls:
        raise DatabaseNotConfiguredError(app=configured.name, name=database)
    if len(urls) > 1:
        raise UsageError(detail=f"select one database with --db: {', '.join(urls)}")
    return next(iter(urls.values()))

"""Check that a profile covers the rows that refer to users, which a deletion would leave or which would prevent it."""

from __future__ import annotations

from collections.abc import Iterator

from dbctl.engines.contract import Readable
from dbctl.profiles import parse_row_path
from dbctl.profiles.model import Profile, Users
from dbctl.services.app import App
from dbctl.services.app.evidence import (
    BlockingReference,
    Contradiction,
    add_samples,
    create_unreadable,
    find_blocking_references,
    find_user_references,
    list_compared_columns,
    read_definitions,
)

_REASONS = {
    "blocked": "a foreign key prevents the deletion of a user with rows in",
    "unhandled": "the deletion of a user leaves rows of",
}


def find_unlisted_rows(app: App, database: str, live: Readable) -> Iterator[Contradiction]:
    """Yield the columns that refer to users if neither a foreign key nor the profile handles them in a deletion.

    Only columns are sampled whose name alone does not decide. Also yield the tables of which that was not permitted.
    """
    users = app.profile.users
    if (
        users is None
        or users.only_app_deletes
        or app.resolve_database(users) != database
        or users.table not in live.tables()
    ):
        return
    evidence = read_definitions(live, app.url(database).engine)
    table = evidence.tables.get(users.table)
    if table is None or users.id.column not in table.columns:
        return
    listed = set(_list_handled(app.profile, users))
    compared = {
        name: columns
        for name, names in list_compared_columns(evidence, table, users.id.column).items()
        if (columns := [column for column in names if f"{name}.{column}" not in listed])
    }
    if compared.keys() - {table.name}:
        evidence = add_samples(live, evidence, compared)
    for error in evidence.denials:
        yield create_unreadable(("users",), error)
    for reference in find_user_references(evidence, evidence.tables[users.table], users.id.column):
        if reference.deletion != "handled" and reference.path not in listed:
            yield Contradiction(
                key=("users", "cascade"),
                code="owned-rows",
                reason=f"{_REASONS[reference.deletion]} {reference.path}",
                remedy="List the column in users.cascade or [[users.transfer]].",
                severity="warning",
            )
    owned = [*users.owned, *(f"{name}.{column}" for name, column in _list_companions(users))]
    known = [path for path in owned if parse_row_path(path)[0].table in evidence.tables]
    for blocking in find_blocking_references(evidence, evidence.tables[users.table], users.id.column, known):
        if f"{blocking.table}.{blocking.column}" not in listed:
            yield Contradiction(
                key=("users", "cascade"),
                code="owned-rows",
                reason=f"{_REASONS['blocked']} {blocking.place}",
                remedy=_suggest(blocking),
                severity="warning",
            )


def _suggest(blocking: BlockingReference) -> str:
    if not blocking.path:
        return "A profile cannot express the path: delete these rows before their user."
    clear = "" if blocking.is_required else "users.clear, which sets the column to NULL, or in "
    return f"List it in {clear}users.cascade, which deletes the rows."


def _list_handled(profile: Profile, users: Users) -> Iterator[str]:
    """Yield the columns (``table.column``) that sections of the profile name as those of a user."""
    for path in (*users.owned, *users.clear, *users.retained):
        yield parse_row_path(path)[0].path
    sections = [(transfer.table, transfer.column) for transfer in users.transfer]
    sections += _list_companions(users)
    sections += [(section.table, section.user) for section in users.signed_in]
    sections += [(section.table, section.user) for section in profile.sessions]
    sections += [(settings.table, settings.user) for settings in profile.settings if settings.scope == "user"]
    sections += [(rule.table, rule.user) for rule in profile.rebuild]
    if users.statistics:
        sections.append((users.statistics.table, users.statistics.user))
    for name, column in sections:
        yield f"{name.removesuffix('?')}.{column}"


def _list_companions(users: Users) -> list[tuple[str, str]]:
    return [
        (companion.table.removesuffix("?"), companion.user) for companion in users.create if companion.user
    ]

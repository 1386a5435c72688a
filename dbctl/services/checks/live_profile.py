"""Checks that a live database has what its profile names, and that the proofs of commands are of this app and this profile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from dbctl.engines.contract.database import Readable
from dbctl.errors.base import Remedy
from dbctl.errors.migrations import MigrationsMissingError
from dbctl.errors.usage import NotSupportedError, SchemaMismatchError
from dbctl.model import Finding, Severity, group
from dbctl.profiles.model.base import ColumnNames, is_optional, list_names
from dbctl.profiles.model.cleanup import Cleanup, Sessions
from dbctl.profiles.model.settings import Settings
from dbctl.profiles.model.users import Users
from dbctl.profiles.schema_references import list_schema_references
from dbctl.services.app import proofs
from dbctl.services.app.evidence.facts import DUE_TIMES, FACT_CHECKS, UNCOVERED
from dbctl.services.app.evidence.subjects import (
    Check,
    Contradiction,
    Needs,
    Subject,
    check,
    create_unreadable,
    require,
)
from dbctl.services.app.live_table import find_column, list_uncovered
from dbctl.services.checks.user_values import Problem, list_referenced
from dbctl.services.migrations import status as migration_status
from dbctl.services.search.compiler import QueryCompiler

#: The sections of a profile by which commands write.
WRITTEN = ("users", "roles", "settings", "cleanup", "rebuild")


def rule(
    code: str, severity: Severity, remedy: str
) -> Callable[[Callable[[Subject], Iterator[Problem]]], Check]:
    """Declare the function below as a check all of whose problems have the same code, severity and remedy."""

    def declare(find: Callable[[Subject], Iterator[Problem]]) -> Check:
        def run(subject: Subject) -> Iterator[Contradiction]:
            for key, reason in find(subject):
                yield Contradiction(key, code, reason, remedy, severity)

        return Check(code, run)

    return declare


@rule("variant-unknown", "error", "Add a variant with the columns of this deployment.")
def check_variants(subject: Subject) -> Iterator[Problem]:
    """Yield the sections whose table exists, but without the columns of any variant."""
    profile, main = subject.app.profile, subject.app.main_database
    database, live = subject.database, subject.db
    users_database = (profile.users.database if profile.users else "") or main
    rules: list[tuple[str, int, Cleanup | Sessions, str, list[list[str]]]] = [
        ("cleanup", index, entry, entry.database or main, [list(variant.needs) for variant in entry.variant])
        for index, entry in enumerate(profile.cleanup)
    ]
    rules += [
        ("sessions", index, entry, users_database, [list(variant.open) for variant in entry.variant])
        for index, entry in enumerate(profile.sessions)
    ]
    for section, index, entry, section_database, variants in rules:
        table = live.tables().get(entry.table.removesuffix("?"))
        if section_database != database or table is None or not variants:
            continue
        if not any(all(find_column(table, column) for column in needs) for needs in variants):
            columns = ", or ".join(", ".join(needs) for needs in variants)
            yield (section, index, "variant"), f"no variant of {entry.name} fits {table.name}: {columns}"


@check("table-unreadable")
def check_privileges(subject: Subject) -> Iterator[Contradiction]:
    """Yield the tables of the profile of which the role may not read every column that the profile names."""
    for name, (key, _) in subject.named_columns.items():
        if error := subject.find_denial(name):
            yield create_unreadable(key, error)


@rule("schema-mismatch", "error", "Migrations may be pending. Mark optional names with a trailing ?")
def check_names(subject: Subject) -> Iterator[Problem]:
    """Yield every table and column that the profile names for ``database`` and that the live database lacks."""
    profile, main = subject.app.profile, subject.app.main_database
    database, live = subject.database, subject.db
    tables = live.tables()
    for reference in list_schema_references(profile, main):
        if reference.database != database:
            continue
        if reference.column is None and reference.table not in tables and not reference.is_optional:
            yield reference.key, f"no table {reference.table}" if reference.table else "the name is empty"
        elif (
            reference.column is not None
            and reference.table in tables
            and not reference.is_optional
            and not find_column(tables[reference.table], reference.column)
        ):
            column = reference.column if isinstance(reference.column, str) else " or ".join(reference.column)
            yield reference.key, f"no column {reference.table}.{column}" if column else "the name is empty"
    for index, settings in enumerate(profile.settings):
        if (settings.database or main) == database and settings.table in tables and settings.variant:
            for missing in _missing_settings_columns(settings, live):
                yield ("settings", index, "variant"), missing


@rule("search-key-idle", "warning", "Explain with `missing` why a deployment may lack it.")
def check_search_keys(subject: Subject) -> Iterator[Problem]:
    """Yield the search keys without columns in the live database, unless the profile explains it with ``missing``."""
    profile, database, live = subject.app.profile, subject.database, subject.db
    for index, search in enumerate(profile.search):
        if search.database != database:
            continue
        try:
            compiler = QueryCompiler(profile, search, live)
        except SchemaMismatchError:  # reported by ``find_missing``
            continue
        for key_index, key in enumerate(search.key):
            if not (key.missing or key.excluded_by or compiler.find_location(key)):
                yield (
                    ("search", index, "key", key_index),
                    f"the database has no columns for the key {key.names[0]}",
                )


@rule("table-view", "warning", "Name the table whose rows it shows.")
def check_views(subject: Subject) -> Iterator[Problem]:
    """Yield the views that commands would have to write, and cannot."""
    database, tables = subject.database, subject.db.tables()
    if subject.app.database(database).mode == "read-only":
        return
    for reference in list_schema_references(subject.app.profile, subject.app.main_database):
        table = tables.get(reference.table) if reference.database == database else None
        if table and table.is_view and reference.column is None and reference.key[0] in WRITTEN:
            try:
                subject.db.require_transactional(table.name)
            except NotSupportedError:
                yield reference.key, f"{table.name} is a view, to which dbctl cannot write"


@rule("cleanup-idle", "warning", "Describe the rows of this deployment in [[cleanup.variant]].")
def check_cleanup(subject: Subject) -> Iterator[Problem]:
    """Yield the rules of the cleanup that are not applied, because the table lacks the column of a condition."""
    for index, entry in enumerate(subject.app.profile.cleanup):
        table = subject.db.tables().get(entry.table.removesuffix("?"))
        if table and subject.app.resolve_database(entry) == subject.database:
            for name in entry.where:
                if is_optional(name) and not find_column(table, name):
                    column = f"{table.name}.{name.removesuffix('?')}"
                    yield ("cleanup", index, "where", name), f"{entry.name} is not applied without {column}"


@rule(
    "column-uncovered",
    "error",
    "Add it to [users.fields] or, with a value, to [users.new] or [[users.create]].",
)
def check_new_users(subject: Subject) -> Iterator[Problem]:
    """Yield the required columns of the rows of a new user for which the profile has no value."""
    profile, main = subject.app.profile, subject.app.main_database
    database, live = subject.database, subject.db
    users = profile.users
    if (
        users is None
        or users.only_app_creates
        or (users.database or main) != database
        or users.table not in live.tables()
    ):
        return
    table = live.tables()[users.table]
    names: list[ColumnNames] = [users.id.column, *users.new, *users.fields.values()]
    names += users.password.columns if users.password else ()
    if users.role:
        names += [users.role.column, *(column for rank in users.role.ranks for column in rank.columns)]
    for column in list_uncovered(table, [find_column(table, name) for name in names]):
        yield ("users", "fields"), f"{users.table}.{column} requires a value, but the profile has none"
    yield from find_uncovered_companions(users, live)


def _missing_settings_columns(settings: Settings, live: Readable) -> Iterator[str]:
    """Yield the missing key columns of the variant whose type column exists, or that no variant matches."""
    table = live.tables()[settings.table]
    for variant in settings.variant:
        if find_column(table, variant.type):
            columns = list_names(variant.key)
            yield from (
                f"no column {settings.table}.{column}" for column in columns if not find_column(table, column)
            )
            return
    yield f"{settings.table} has no column {' or '.join(variant.type for variant in settings.variant)} with the type of a setting"


def find_uncovered_companions(users: Users, live: Readable) -> Iterator[Problem]:
    """Yield the required columns of companion tables for which the profile has no value."""
    for index, row in enumerate(users.create):
        table = live.tables().get(row.table.removesuffix("?"))
        if table is None:
            continue
        generated = list_referenced(users, table.name)
        for position, entry in enumerate(row.rows or [{}]):
            place: Sequence[str | int] = ("rows", position) if row.rows else ()
            names = [row.user, *row.values, *entry, *generated]
            for column in list_uncovered(table, [find_column(table, name) for name in names]):
                key = ("users", "create", index, *place)
                yield key, f"{table.name}.{column} requires a value, but the profile has none"


@check("migrations-missing", needs=Needs.NOTHING)
def check_folder(subject: Subject) -> Sequence[Finding]:
    """Return the folder of migrations that is configured, but does not exist."""
    folder = subject.app.configured.migrations.get(subject.database)
    if folder is None or folder.is_dir():
        return ()
    return [Finding.from_error(subject.target, MigrationsMissingError(target=subject.target, path=folder))]


@check("decision-open")
def check_decisions(subject: Subject) -> Iterator[Contradiction]:
    """Yield what the profile leaves open, with the main database."""
    profile = subject.app.profile
    if subject.database != subject.app.main_database:
        return
    for topic, decisions in profile.undecided.items():
        for index, decision in enumerate(decisions):
            yield Contradiction(
                ("undecided", topic, index),
                "decision-open",
                f"undecided: {decision}",
                f"Decide it in the profile, then delete the entry {topic} from [undecided].",
                "info",
            )
    if profile.users and profile.users.admin == "":
        yield Contradiction(
            ("users",),
            "admin-undecided",
            "the profile does not say which users are admins: dbctl deletes, deactivates and demotes none",
            "Name the role in users.admin, or write admin = false if the app has no admins among its users.",
            "warning",
        )


FACTS, UNCOVERED_ROWS = (*FACT_CHECKS, DUE_TIMES), UNCOVERED


@check("commands-proven")
def check_proofs(subject: Subject) -> Iterator[Finding]:
    """Yield the proven commands, the others, and proofs of another profile or of another version of the app."""
    app = subject.app
    require(app.core.proven and subject.database == app.resolve_database(app.core.users))
    states = [*proofs.list_proofs(app)]
    profile, first = proofs.locate_profile(app)
    facts = {"profile": profile, "first": first}
    if proven := [state.command for state in states if state.is_proven]:
        writes = dict.fromkeys(
            write for state in states if state.is_proven and state.proof for write in state.proof.shown
        )
        shown = f"; of settings: {', '.join(writes)}" if writes else ""
        message = f"proven by replayed demonstrations: {', '.join(proven)}{shown}"
        yield subject.finding("info", "commands-proven", message)
    unproven = group((state.describe_others(), state.command) for state in states if state.proof is None)
    for others, inferred in unproven.items():
        message = f"inferred, not proven{others}: {', '.join(inferred)}"
        hint = Remedy("{first}Record an action with: `profiles learn ACTION --to {profile}`")
        yield subject.finding("info", "commands-inferred", message, hint, **facts)
    if outdated := [state.command for state in states if state.is_outdated]:
        message = f"the profile has changed since the proof of {', '.join(outdated)}"
        hint = Remedy("`profiles prove {profile}`")
        yield subject.finding("warning", "proof-outdated", message, hint, **facts)
    version = migration_status.read_version(app, subject.database)
    proven_by_ledger = group((state.proof.ledger, state.command) for state in states if state.proof)
    for ledger, commands in proven_by_ledger.items():
        if ledger != version:
            message = f"the last migration of the app is {version or 'unknown'}, not {ledger or 'none'}, with which these were proven: {', '.join(commands)}"
            hint = Remedy(
                "{first}Record the actions in this version with: `profiles learn ACTION --to {profile}`;"
                " then replay them with: `profiles prove {profile}`"
            )
            yield subject.finding("warning", "proof-superseded", message, hint, **facts)

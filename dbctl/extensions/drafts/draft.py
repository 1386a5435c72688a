"""Draft a profile of the app of one database, and write it to a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from msgspec import structs

from dbctl.engines import registry
from dbctl.engines.contract.database import Readable, require_supported
from dbctl.errors.connection import (
    DatabaseMissingError,
    FileExistsAlreadyError,
    FileFailedError,
    NotADatabaseError,
)
from dbctl.errors.usage import SchemaMismatchError, UsageError
from dbctl.extensions.drafts.anonymise import draft_rules, list_described
from dbctl.extensions.drafts.content import draft_reports, draft_searches, draft_settings
from dbctl.extensions.drafts.databases import draft_database, draft_owned_rows
from dbctl.extensions.drafts.document import (
    Decision,
    Draft,
    Entry,
    Line,
    Part,
    join_names,
    number_names,
    write_comment,
    write_document,
)
from dbctl.extensions.drafts.second_factors import draft_second_factors
from dbctl.extensions.drafts.sign_ins import SignInDraft, draft_sign_ins
from dbctl.extensions.drafts.users import (
    UsersCandidate,
    choose_users_table,
    draft_users,
    list_similar_tables,
    rank_users_tables,
)
from dbctl.files.atomic import write_atomically
from dbctl.model import ChangeResult, Effect, Row
from dbctl.services.app.evidence.gather import Evidence, gather_evidence
from dbctl.url import Url

NAME = re.compile(r"\w[\w.-]*")
CHECK_PATH = "Check the path, or the URL."


class ProfileDraft(ChangeResult, frozen=True, kw_only=True):
    """Result of ``profiles draft``."""

    name: str
    target: str  #: the address of the database, without a password
    file: str | None  #: None: the profile was not written to a file
    tables: int
    users: str | None  #: the table of users; None: the database has none
    decisions: Sequence[str]  #: what the database does not show
    profile: str  #: the text

    @property
    def effect(self) -> Effect | None:
        counts = {"tables": self.tables, "decisions open": len(self.decisions)}
        place = f"to {self.file}" if self.file else ""
        return Effect("wrote", "profile", [self.name], place=place, counts=counts)

    def summary(self) -> Row:
        return {"name": self.name, "file": self.file, "users": self.users, "decisions": self.decisions}


def draft_profile(
    url: Url, *, name: str = "", users: str = "", timeout: float, origin: str = ""
) -> ProfileDraft:
    """Read the database at ``url``, and return a profile of its app, which has the name of the database unless ``name`` is given.

    The table of ``users`` is by default the one that looks most like it. ``origin`` is the file of which the database is a temporary
    copy, if it is one.

    Raises:
        UsageError: the name is no name of a profile, or ``users`` cannot be the table of users.
        NotSupportedError: the engine has no schema that a draft can read.
        SchemaMismatchError: the database has no tables.
    """
    name = name or _default_name(url)
    if not NAME.fullmatch(name):
        raise UsageError(
            detail=f"--name {name!r}: only letters, digits, dots, dashes and underscores are allowed"
        )
    try:
        db = registry.load_engine(url.engine).open_for_reading(url, name, timeout=timeout)
    except (DatabaseMissingError, NotADatabaseError) as error:  # the remedies are those of a configured app
        error.hint = CHECK_PATH
        raise
    try:
        hint = "Write the profile by hand: docs/how-to/write-a-profile.md."
        require_supported(db, db.schema_reader, "a draft", hint)
        if not db.tables():
            mismatch = SchemaMismatchError(target=str(url), missing="every table", purpose="a draft")
            mismatch.hint = CHECK_PATH
            raise mismatch
        evidence = gather_evidence(db, url.engine)
        candidates = [choose_users_table(evidence, users)] if users else rank_users_tables(evidence)
        return _draft(evidence, db, url, name, candidates, origin)
    finally:
        db.close()


def _default_name(url: Url) -> str:
    stem = Path(url.path).stem if url.is_file else url.path
    return re.sub(r"[^\w.-]+", "-", stem).strip("-._") or "app"


def _draft(
    evidence: Evidence, db: Readable, url: Url, name: str, candidates: Sequence[UsersCandidate], origin: str
) -> ProfileDraft:
    best = next((candidate for candidate in candidates if not candidate.table.is_view), None)
    best = best if best and best.table.key else None
    table = best.table if best else None
    sign_ins = draft_sign_ins(evidence, table) if table else SignInDraft()
    factors = draft_second_factors(evidence, table) if table else Draft()
    users = draft_users(evidence, db, best, candidates, sign_ins.tables) if best else None
    owned = (
        draft_owned_rows(
            evidence, db, users.table, logins=users.logins, signed_in=sign_ins.tables, described=users.tables
        )
        if users
        else Draft()
    )
    database = draft_database(
        evidence,
        db,
        name=name,
        file=Path(url.path).absolute() if url.is_file and not origin else None,
        users=table,
        covered=[*(users.secrets if users else ()), *sign_ins.secrets],
        tokens=sign_ins.tokens,
    )
    decisions = [
        *(users.decisions if users else _explain_missing_users(evidence, candidates)),
        *sign_ins.decisions,
        *factors.decisions,
        *owned.decisions,
        *database.decisions,
        *_explain_gaps(evidence),
    ]
    sections = list[Part]()
    if users:
        first, *others = users.parts
        first = structs.replace(first, lines=[*first.lines, *owned.lines])
        sections += [first, *others, *owned.parts, *sign_ins.signed_in, *factors.parts]
    excluded = {*sign_ins.tables, *([table.name] if table else [])}
    described = [*database.secrets, *(users.secrets if users else ()), *sign_ins.secrets]
    described += list_described(table, users.fields) if table and users else ()
    root, *others_of_database = database.parts
    parts = [
        *_introduce(origin or str(url)),
        root,
        *_write_decisions(decisions),
        *others_of_database,
        *sections,
        *sign_ins.parts,
        *draft_settings(evidence, table),
        *draft_searches(evidence, excluded),
        *draft_reports(evidence, table, users.fields if users else {}),
        *draft_rules(evidence, emptied=sign_ins.tables, described=described),
    ]
    return ProfileDraft(
        name=name,
        target=str(url),
        file=None,
        tables=len(evidence.tables),
        users=table.name if table else None,
        decisions=[decision.text for decision in decisions],
        profile=write_document([*number_names(parts)]),
    )


def _introduce(origin: str) -> list[Part]:
    lines = [
        f"Drafted by dbctl from {origin}. A comment after a line is the evidence for it.",
        "A line that begins with # is a candidate: the database does not show whether it is right.",
    ]
    return [Part(lines=lines)]


def _write_decisions(decisions: Sequence[Decision]) -> list[Part]:
    """Return the section of open decisions, by the subject that depends on them."""
    topics = dict[str, list[Entry]]()
    for decision in decisions:
        topics.setdefault(decision.topic, []).append(Entry(write_comment(decision.text)))
    if not topics:
        return []
    remark = "Decide, then delete the entry: commands that depend on it refuse, or name it"
    lines = [Line(topic, entries) for topic, entries in topics.items()]
    return [Part(header="undecided", remarks=[remark], lines=lines)]


def _explain_missing_users(evidence: Evidence, candidates: Sequence[UsersCandidate]) -> list[Decision]:
    if candidates:
        tables = join_names([candidate.table.name for candidate in candidates])
        text = f"no table can be the users: {tables} is a view, or has no key of one column"
        return [Decision("users", text)]
    similar = list_similar_tables(evidence)
    hint = f"; to choose one of {join_names(similar)}, draft with --users TABLE" if similar else ""
    return [Decision("users", f"no table looks like users: dbctl manages none{hint}")]


def _explain_gaps(evidence: Evidence) -> list[Decision]:
    gaps = [
        ("names that a profile cannot contain", evidence.skipped),
        ("tables that were not read", evidence.unread),
    ]
    return [Decision("other", f"{title}: {join_names(items)}") for title, items in gaps if items]


def write_draft(draft: ProfileDraft, path: Path) -> ProfileDraft:
    """Write a draft to a new file.

    Raises:
        FileExistsAlreadyError, FileFailedError: the file exists, or cannot be written.
    """
    if path.exists():
        raise FileExistsAlreadyError(path=path, hint="Choose another file, or delete it first.")
    if not path.parent.is_dir():
        raise FileFailedError(path=path, reason="its folder does not exist")
    with write_atomically(path, mode=0o644, replace=False) as file:
        file.write(draft.profile)
    return structs.replace(draft, file=str(path))

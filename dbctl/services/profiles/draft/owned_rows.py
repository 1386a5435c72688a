"""Draft what happens to the rows of a user who is deleted."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dbctl.engines.contract.database import Readable
from dbctl.model import Struct
from dbctl.profiles.row_paths import has_row_path
from dbctl.services.app.evidence import references as names
from dbctl.services.app.evidence.gather import Evidence, TableEvidence
from dbctl.services.app.evidence.references import (
    BlockingReference,
    UserReference,
    find_blocking_references,
    find_user_references,
)
from dbctl.services.profiles.draft.document import Decision, Entry, Line, Part, join_names
from dbctl.services.profiles.draft.value_references import (
    contains_all,
    find_named_rows,
    find_value_references,
)

_REASONS = {"blocked": "a foreign key would prevent the deletion", "unhandled": "by its name; no foreign key"}


class OwnedDraft(Struct, frozen=True, kw_only=True):
    """The lines of users, and sections, about the rows of a deleted user."""

    lines: Sequence[Line | str] = ()
    parts: Sequence[Part] = ()
    decisions: Sequence[Decision] = ()


def draft_owned_rows(
    evidence: Evidence,
    db: Readable,
    users: TableEvidence,
    *,
    logins: Sequence[str],
    signed_in: Collection[str],
    described: Collection[str],
) -> OwnedDraft:
    """Return the sections.

    Args:
        evidence: the evidence.
        db: the database.
        users: the table of users.
        logins: its columns with logins.
        signed_in: the tables whose rows end with a sign-in.
        described: other tables whose rows belong to users in other sections.
    """
    references = list(find_user_references(evidence, users, users.key))
    handled = [reference.path for reference in references if reference.deletion == "handled"]
    others = [reference for reference in references if reference.deletion != "handled"]
    deleted = [reference for reference in others if _is_personal(evidence, reference, signed_in)]
    transferable = [reference for reference in others if reference not in deleted]
    # A name alone does not show that an app deletes the rows.
    possible = [
        reference
        for reference in deleted
        if reference.deletion == "unhandled" and reference.table not in signed_in
    ]
    deleted = [reference for reference in deleted if reference not in possible]
    unproven = {
        reference.path
        for reference in transferable
        if reference.deletion == "unhandled" and not _has_only_users(evidence, db, users, reference)
    }
    lines: list[Line | str] = []
    if handled:
        lines.append(f"Foreign keys delete these, or set them to NULL: {join_names(handled)}")
    below = _BlockedRows(evidence, users, [reference.path for reference in deleted])
    named = find_named_rows(evidence, users)
    copied = [
        reference
        for reference in find_value_references(
            evidence,
            db,
            users,
            logins,
            {*signed_in, *described, *named, *(reference.path for reference in references)},
        )
        if reference.path
    ]
    entries = [
        *(
            Entry(path, "deletes rows with the key of the user in their name", is_candidate=True)
            for paths in named.values()
            for path in paths
        ),
        *(Entry(reference.path, reference.evidence, is_candidate=True) for reference in copied),
        *(Entry(reference.path, _REASONS["unhandled"], is_candidate=True) for reference in possible),
        *below.list_deleted(deleted),
    ]
    if entries:
        lines.append(Line("cascade", entries, "rows that are deleted before their user"))
    if below.cleared:
        cleared = [Entry(path, _REASONS["blocked"]) for path in below.cleared]
        lines.append(Line("clear", cleared, "references to deleted rows, which become NULL"))
    parts = [
        _draft_transfer(evidence, reference, is_candidate=reference.path in unproven)
        for reference in transferable
        if reference.deletion == "blocked" or not evidence.tables[reference.table].is_unique(reference.column)
    ]
    blocked = [reference.path for reference in transferable if reference.deletion == "blocked"]
    decisions = list[Decision]()
    if blocked:
        text = f"users with rows in {join_names(blocked)} are deleted only with --transfer-to, or add them to cascade"
        decisions.append(Decision("deletion", text))
    named_after = [reference for reference in transferable if reference.deletion == "unhandled"]
    left = [reference.path for reference in named_after if reference.path not in unproven]
    if left:
        text = f"rows of {join_names(left)} remain without their user, unless --transfer-to is used"
        decisions.append(Decision("deletion", text))
    remaining = [reference.path for reference in possible if reference.table not in described]
    remaining += [reference.path for reference in named_after if reference.path in unproven]
    if remaining:
        text = f"only names show that rows of {join_names(remaining)} belong to users: they remain without their user, unless cascade or users.transfer has them"
        decisions.append(Decision("deletion", text))
    if below.undecided:
        text = f"users are not deleted while rows of others refer to their rows: {join_names(below.undecided)}; add them to cascade"
        decisions.append(Decision("deletion", text))
    if copied:
        places = [f"{reference.place} ({reference.evidence})" for reference in copied]
        text = f"rows remain without their user in {join_names(places)}: add those that are users to cascade"
        decisions.append(Decision("deletion", text))
    if named:
        text = f"names in {join_names(list(named))} contain the key of a user: the next user with this key would get their rights"
        decisions.append(Decision("rights", text))
    return OwnedDraft(lines=lines, parts=parts, decisions=decisions)


class _BlockedRows:
    """Rows that refer to rows which are deleted with their user, where a foreign key would prevent it."""

    def __init__(self, evidence: Evidence, users: TableEvidence, deleted: Sequence[str]) -> None:
        owners = {reference.table for reference in find_user_references(evidence, users, users.key)}
        self.cleared, self.undecided = list[str](), list[str]()
        self._deleted, self._steps = list[BlockingReference](), dict[str, int]()
        for blocking in find_blocking_references(evidence, users, users.key, deleted):
            self._steps[blocking.table] = blocking.steps  # those of the longest path, which is the last
            if not blocking.path or (blocking.is_required and blocking.table in owners):
                self.undecided.append(blocking.place)  # the rows have users of their own
            elif blocking.is_required:
                self._deleted.append(blocking)
            else:
                self.cleared.append(blocking.path)

    def list_deleted(self, direct: Sequence[UserReference]) -> list[Entry]:
        """Return the deleted rows, with ``direct``: rows that refer to others precede them."""
        reason = "a foreign key would prevent the deletion, and requires a value"
        entries = [(blocking.table, Entry(blocking.path, reason)) for blocking in self._deleted]
        entries += [
            (reference.table, Entry(reference.path, _REASONS[reference.deletion])) for reference in direct
        ]
        return [entry for table, entry in sorted(entries, key=lambda entry: -self._steps.get(entry[0], 0))]


def _is_personal(evidence: Evidence, reference: UserReference, signed_in: Collection[str]) -> bool:
    table = evidence.tables[reference.table]
    column = table.columns[reference.column]
    # One row for each user; without a foreign key, rows of others may depend on it.
    is_own_key = table.is_unique(reference.column) and reference.deletion == "blocked"
    is_personal = is_own_key or bool(names.PERSONAL_ROWS.search(names.normalize(reference.table)))
    if not has_row_path(reference.table, reference.column):
        return False
    return reference.table in signed_in or (
        is_personal and (not column.nullable or reference.deletion == "unhandled")
    )


def _has_only_users(evidence: Evidence, db: Readable, users: TableEvidence, reference: UserReference) -> bool:
    """Return whether all sampled values of a column are keys of users."""
    stored = evidence.tables[reference.table].values(reference.column)
    return bool(stored) and contains_all(db, users, users.key, stored)


def _draft_transfer(evidence: Evidence, reference: UserReference, *, is_candidate: bool) -> Part:
    table = evidence.tables[reference.table]
    lines = [Line("table", reference.table, _REASONS[reference.deletion]), Line("column", reference.column)]
    once = [list(key) for key in table.keys if reference.column in key and len(key) > 1]
    if once:
        lines.append(Line("once", [name for name in once[0] if name != reference.column], "a unique index"))
    remarks = ["If these rows belong to users:"] if is_candidate else []
    return Part(
        header="users.transfer", is_array=True, lines=lines, remarks=remarks, is_candidate=is_candidate
    )

"""``restore undo``: find the safety backup of the last restore."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl.errors.backup import BackupMissingError
from dbctl.errors.base import Remedy
from dbctl.errors.restore import NothingToUndoError, RetainedDatabaseMissingError, UndoMissingError
from dbctl.services.app.app import App
from dbctl.services.backup.manifest import Manifest, Member
from dbctl.services.backup.repository import LATEST, Repository

_BEFORE_MIGRATION = Remedy(
    "Return to the state before the last migration or reset with: `restore apply {id}`; list backups with: `backup list`"
)
_OF_ANOTHER = Remedy(
    "The newest one is of another database, {address}; if this one was moved from there: `restore apply {id}`"
)
_LIST_OLDER = Remedy("List older backups with: `backup list`; restore one with: `restore apply ID`")


def find_undo_backup(repository: Repository) -> Manifest:
    """Return the safety backup of the last restore.

    Two kinds are skipped: backups of a restore that was killed before it replaced anything, as far as that is known (then
    the retained databases of the restore before it still exist, because they are dropped at the end of a restore); and
    backups of a restore that was interrupted between two databases and then undone.

    Raises:
        UndoMissingError: there is no safety backup.
        NothingToUndoError: the last restore replaced no database, or was interrupted, and no earlier one exists.
    """
    app = repository.app
    manifests, _ = repository.manifests()
    own = repository.select_own(manifests, app.only)
    try:
        newest = repository.find(LATEST, "safety")
    except BackupMissingError:
        migration = next((backup for backup in own if backup.kind == "migration"), None)
        place = repository.store.location
        if migration:
            raise UndoMissingError(
                app=app.name, place=place, hint=_BEFORE_MIGRATION, id=migration.id
            ) from None
        safety = (backup for backup in manifests if backup.kind == "safety" and backup not in own)
        if other := next(safety, None):
            address = ", ".join(dict.fromkeys(repository.find_others(other).values()))
            raise UndoMissingError(
                app=app.name, place=place, hint=_OF_ANOTHER, id=other.id, address=address
            ) from None
        raise UndoMissingError(app=app.name, place=place) from None
    target = app.target(app.only) if app.only else app.name
    if not [name for name in newest.databases if app.only in ("", name)]:
        raise NothingToUndoError(
            target=target,
            reason=f"its last restore ({newest.restored}) replaced no database",
            hint=_LIST_OLDER,
        )
    backups = [backup for backup in own if backup.kind == "safety"]
    undone = {name for backup in backups for name in _find_undone_backups(backup, backups)}
    if newest.id not in undone and not _replaced_nothing(app, newest):
        return newest
    candidates = (backup for backup in backups if backup.number < newest.number and backup.id not in undone)
    earlier = next((backup for backup in candidates if _is_complete(app, backup)), None)
    if earlier is None:
        reason = (
            "its last restore was interrupted and is already undone"
            if newest.id in undone
            else f"its last restore ({newest.restored}) was interrupted before it replaced a database"
        )
        hint = Remedy("The data from before it is stored; restore it with: `restore apply {id}`")
        if lost := repository.find_lost_databases([newest]).get(newest.id):
            reason, hint = f"{reason}, or {lost}", _LIST_OLDER
        raise NothingToUndoError(target=target, reason=reason, hint=hint, id=newest.id)
    return earlier


def _find_undone_backups(safety: Manifest, backups: Sequence[Manifest]) -> Sequence[str]:
    """Return the ids of ``safety`` and of the backup it restored, if that undid an interrupted restore; otherwise none.

    The interrupted restore had not yet renamed a database, so the undo retained no database either.
    """
    undone = next((member for member in backups if member.id == safety.restored), None)
    members = undone.members if undone else ()
    unreplaced = [
        member
        for member in members
        if member.form == "kept"
        and (saved := safety.restorable_member(member.database)) is not None
        and saved.form != "kept"
    ]
    return (safety.id, safety.restored) if unreplaced else ()


def _replaced_nothing(app: App, safety: Manifest) -> bool:
    """Return whether all databases of a safety backup are still in place."""
    members = _select_members(app, safety)
    return bool(members) and all(_is_unreplaced(app, member) for member in members)


def _is_complete(app: App, safety: Manifest) -> bool:
    """Return whether a restore replaced the databases of a safety backup, and all retained databases exist."""
    members = _select_members(app, safety)
    return (
        bool(members)
        and not _replaced_nothing(app, safety)
        and not any(member.form == "kept" and _is_unreplaced(app, member) for member in members)
    )


def _select_members(app: App, safety: Manifest) -> list[Member]:
    databases = app.profile.databases if not app.only else [app.only]
    return [member for member in safety.members if member.database in databases]


def _is_unreplaced(app: App, member: Member) -> bool:
    """Return whether the source of a member was not replaced: it was never retained, or its markers are unchanged."""
    restore_target = app.restore_target(member.database)
    if member.form == "kept":
        try:
            restore_target.strategy(member.dump)
        except RetainedDatabaseMissingError:
            return True
        return False
    markers = restore_target.markers()
    return bool(markers) and markers.items() <= member.facts.items()

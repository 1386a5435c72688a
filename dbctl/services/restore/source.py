"""The backup that a restore or a copy reads: selection, verification and content of its members; or the live databases as a backup."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import msgspec
from msgspec import structs

from dbctl.engines import registry
from dbctl.engines.contract.database import Readable
from dbctl.engines.contract.dumps import LoadRequest, MissingRole, RestoreTarget, RolePolicy
from dbctl.errors.backup import (
    BackupCorruptError,
    BackupMissingError,
    BackupPartialError,
    KeyWrongError,
    RolesMissingError,
)
from dbctl.errors.base import Remedy
from dbctl.errors.connection import CorruptError, FileMissingError, ReadOnlyError
from dbctl.errors.usage import NotSupportedError
from dbctl.files import age
from dbctl.model import format_count
from dbctl.services.app.app import App
from dbctl.services.backup import verifier
from dbctl.services.backup.app_files import BackupOperation
from dbctl.services.backup.create import CreateBackup
from dbctl.services.backup.encryption import DecryptionKeys
from dbctl.services.backup.manifest import Manifest, Member
from dbctl.services.backup.member_files import MemberReader, open_reader
from dbctl.services.backup.repository import ID, Repository
from dbctl.url import Url

#: ``missing``: insert rows whose key is missing; ``replace``: also replace rows that differ.
MergeMode: TypeAlias = Literal["missing", "replace"]

PARTIAL_HINT = Remedy("Restore the rows of a table with: `restore apply {id} --table NAME --merge missing`")
PARTIAL_FILE_HINT = Remedy(
    "Restore the rows of a table with: `restore apply --file {id} --table NAME --merge missing`"
)


class BackupSource:
    """One backup, with the repository that reads it and the keys that decrypt it."""

    def __init__(
        self,
        repository: Repository,
        manifest: Manifest,
        keys: DecryptionKeys,
        roles: RolePolicy | None = None,
    ) -> None:
        self.app, self.repository, self.manifest, self.keys = repository.app, repository, manifest, keys
        self.roles = roles or RolePolicy()

    @property
    def label(self) -> str:
        """Its id and time, and for a safety backup the restore that it reverts, for the titles of plans."""
        manifest = self.manifest
        reverted = f", from before the restore of {manifest.restored}" if manifest.restored else ""
        return f"{manifest.id} ({manifest.created_at:%Y-%m-%d %H:%M} UTC{reverted})"

    def identify(self) -> tuple[str, str]:
        """Return the id and the path of the backup."""
        return self.manifest.id, self.repository.path(self.manifest)

    def prepare_keys(self) -> None:
        """Read the keys of the backup; raises as ``DecryptionKeys.prepare``."""
        self.keys.prepare(self.repository.store, self.manifest)

    def select_members(self, *, replaces_live: bool = True, allow_partial: bool = False) -> list[Member]:
        """Return the members for the selected databases.

        ``replaces_live``: whether they will replace the live databases. ``allow_partial``: whether the backup may contain
        only some tables.

        Raises:
            BackupMissingError: the backup does not contain that database.
            BackupPartialError: it contains only some tables.
            NotSupportedError: it contains only files of the database that are not a valid database.
            ReadOnlyError: the live database belongs to another program, or is read from a replica.
        """
        app, manifest = self.app, self.manifest
        databases = [name for name in manifest.databases if app.only in ("", name)]
        if not databases:
            raise self.missing_error(app.only)
        if manifest.kind == "partial" and not allow_partial:
            raise partial_backup_error(self.repository, manifest)
        return [self._select_member(name, replaces_live=replaces_live) for name in databases]

    def _select_member(self, database: str, *, replaces_live: bool) -> Member:
        section, target = self.app.database(database), self.app.target(database)
        place = self.repository.path(self.manifest)
        if replaces_live:
            self.app.require_primary(database)
        if replaces_live and section.mode == "read-only":
            raise ReadOnlyError(
                target=target,
                reason=f"it belongs to {section.owner or 'another program'}",
                hint=f"Nothing was changed. Its backup is in {place}; choose another database with --db.",
            )
        feature = f"restoring {target} from {self.manifest.id}"
        refuse_server_files(self.manifest, feature)
        member = self.manifest.restorable_member(database)
        if member is None:
            raise NotSupportedError(
                feature=feature,
                subject="its contents: files that are not a valid database",
                hint=f"Nothing was changed. The files are in {place}.",
            )
        return member

    def missing_error(self, database: str = "") -> BackupMissingError:
        """Return the error for a backup that does not exist any more, or that does not contain a database."""
        place = self.repository.store.location + (f" contains {database}" if database else "")
        return BackupMissingError(name=self.manifest.id, app=self.app.name, place=place)

    def require_existing(self) -> None:
        """Check that the backup still exists; the caller holds the lock of the repository.

        Raises:
            BackupMissingError: another process has pruned it.
        """
        if self.repository.is_deleted(self.manifest):
            raise self.missing_error()

    def open_reader(self, *, moved_databases: Sequence[str] = ()) -> AbstractContextManager[MemberReader]:
        """Open a reader of the files of the backup; see ``backup.open_reader``."""
        return open_reader(self.repository.store, self.keys, moved_databases=moved_databases)

    def read_role_policy(self, member: Member, reader: MemberReader | None = None) -> RolePolicy:
        """Return what to do with the roles of a member; created ones get their passwords if the backup has them.

        ``reader``: the reader of the backup, if the caller has one.

        Raises:
            CorruptError: the file of the passwords is missing or damaged.
        """
        stored = self.manifest.password_member(member.database)
        if self.roles.missing != "create" or stored is None or member.foreign:
            return self.roles
        with ExitStack() as stack:
            reader = reader or stack.enter_context(self.open_reader())
            path = reader.decode_verified(self.manifest, stored, self.app.target(member.database))
            content = path.read_bytes()
        passwords = msgspec.json.decode(content, type=dict[str, str])
        return structs.replace(self.roles, passwords=passwords)

    def plan_member(self, restore_target: RestoreTarget, member: Member, target: str) -> list[str]:
        """Return the steps of ``plan_roles`` for a restore of a member, and what its creation reported; raises as it and ``read_role_policy`` do."""
        remarks = member.facts.get("remarks")
        notes = [f"note: when {member.database} was backed up: {remarks}"] if remarks else []
        return [*notes, *plan_roles(restore_target, member, self.read_role_policy(member), target)]

    def verify(self, members: Sequence[Member], reader: MemberReader) -> None:
        """Verify members: checksums and content; record damage as ``backup verify`` does.

        Raises:
            BackupCorruptError: a member is damaged.
            KeyWrongError: the backup is encrypted for other identities.
        """
        prefix, databases = f"backup {self.manifest.id}", [member.database for member in members]
        check = verifier.BackupVerifier(self.repository, self.keys, deep=True, quick=True, reader=reader)
        for finding in check.find_problems(self.manifest, databases):
            if finding.code == KeyWrongError.code:
                raise KeyWrongError(file=prefix, reason=age.NOT_FOR_US)
            if finding.severity == "error":
                verifier.record_result(self.repository, self.manifest, [finding], all_files=False, deep=True)
                reason = finding.message.removeprefix(prefix).lstrip(", ")
                reason = f"it {reason}" if reason.startswith("is ") else reason
                raise BackupCorruptError(id=self.manifest.id, app=self.app.name, reason=reason)

    @contextmanager
    def open_content(self, member: Member, reader: MemberReader | None = None) -> Iterator[Readable]:
        """Yield a temporary database with the content of a member; delete it afterwards.

        ``reader``: the reader of the backup, if the caller has one.

        Raises:
            BackupCorruptError: the member is damaged, or cannot be loaded.
            PrivilegeMissingError: the dump must be loaded, and the user may not create a database.
        """
        require_copyable(member)
        app, target = self.app, self.app.target(member.database)
        url = verifier.trial_server(app, member) or app.url(member.database)
        with ExitStack() as stack:
            reader = reader or stack.enter_context(self.open_reader())
            restore_target = registry.load_engine(url.engine).restore_target(url, target)
            try:
                path = reader.decode(self.manifest, member, target)
                request = LoadRequest(
                    path=path, dump=member.dump, timeout=app.timeout, roles=verifier.WITHOUT_ROLES
                )
                copy = stack.enter_context(restore_target.restored_copy(request))
            except CorruptError as error:
                reason = error.context["reason"]
                raise BackupCorruptError(id=self.manifest.id, app=app.name, reason=reason) from error
            engine, label = registry.load_engine(copy.engine), f"backup {self.manifest.id}"
            yield stack.enter_context(closing(engine.open_for_reading(copy, label, timeout=app.timeout)))


class RestoreOperation(BackupOperation):
    def __init__(self, source: BackupSource, database: str = "") -> None:
        """Read the keys of the backup; ``database`` is the only one that the operation affects, if any.

        Raises:
            KeyMissingError: the backup is encrypted, and no identity is available; and as ``DecryptionKeys.prepare``.
        """
        super().__init__(source.repository, database)
        self._source, self._manifest = source, source.manifest
        source.prepare_keys()


class DatabaseContent(Protocol):
    """A part of a result about one database."""

    @property
    def rows(self) -> int: ...

    @property
    def tables(self) -> int: ...

    @property
    def schema_only(self) -> Sequence[str]: ...


def count_content(databases: Sequence[DatabaseContent]) -> dict[str, int]:
    """Return the numbers of tables and rows of all databases, for ``Effect.counts``."""
    return {
        "tables": sum(database.tables for database in databases),
        "rows": sum(database.rows for database in databases),
    }


def describe_left_out(databases: Sequence[DatabaseContent]) -> list[str]:
    """Return the tables of all databases whose rows their backups lack, for ``Effect.details``."""
    tables = [table for database in databases for table in database.schema_only]
    return [f"without the rows of {', '.join(tables)}"] if tables else []


def count_rows(member: Member) -> str:
    """Return the number of rows and tables of a member, and the tables whose rows it lacks, for plans."""
    count = f"{format_count(sum(member.rows.values()), 'row')} of {format_count(len(member.rows), 'table')}"
    return f"{count}, none of {', '.join(member.schema_only)}" if member.schema_only else count


def label_member(member: Member) -> str:
    """Return the name of a member for messages: the retained database, or the file."""
    return member.facts.get("kept", member.file) if member.form == "kept" else member.file


def require_copyable(member: Member) -> None:
    """Check that a member can be read without changing it.

    Raises:
        NotSupportedError: it is a database that an earlier restore retained on its server.
    """
    if member.form == "kept":
        raise NotSupportedError(
            feature=f"reading {label_member(member)}",
            subject="a retained database, which has no other copy",
            hint=Remedy("Nothing was changed. Restore it with: `restore undo`"),
        )


def plan_roles(
    restore_target: RestoreTarget, member: Member, policy: RolePolicy, target: str
) -> Iterator[str]:
    """Yield the steps for roles of a member that the server of ``restore_target`` lacks.

    Raises:
        RolesMissingError: roles are missing, and ``policy`` refuses that.
        RoleReplacementInvalidError: a replaced role or its replacement does not exist.
    """
    missing = restore_target.find_missing_roles(member.dump, policy)
    required = [role.name for role in missing if role.is_required]
    if required and policy.missing == "refuse":
        raise RolesMissingError(
            target=target, roles=format_count(len(required), "role"), names=", ".join(required)
        )
    for name, replacement in policy.replaced.items():
        yield f"use role {replacement} in place of {name}"
    for role in missing:
        yield from _plan_role(role, policy)


def _plan_role(role: MissingRole, policy: RolePolicy) -> Iterator[str]:
    if policy.missing == "create":
        yield f"create role {role.name}, which the server lacks: {role.description}"
    elif role.is_required:
        yield f"leave out ownership and grants of role {role.name}, which the server lacks"


def describe_missing_roles(restore_target: RestoreTarget, member: Member) -> list[str]:
    """Return the roles of a member that the server of its restore lacks, each with its attributes."""
    return [
        f"{role.name} ({role.description})"
        for role in restore_target.find_missing_roles(member.dump, RolePolicy())
        if role.is_required
    ]


def refuse_server_files(manifest: Manifest, feature: str) -> None:
    """Refuse a copy of a server, or a part of its log.

    Raises:
        NotSupportedError: it is one.
    """
    if manifest.kind in ("physical", "log"):
        raise NotSupportedError(
            feature=feature,
            subject="its contents: files or the log of a whole server",
            hint=Remedy(
                "Nothing was changed. Recover a moment as a backup, such as that of an hour ago: `backup recover --at 1h`"
            ),
        )


def partial_backup_error(repository: Repository, manifest: Manifest) -> BackupPartialError:
    """Return the error for restoring a database from a backup of some tables."""
    tables = ", ".join(name for member in manifest.members for name in member.only)
    hint = PARTIAL_HINT if ID.fullmatch(manifest.id) else PARTIAL_FILE_HINT
    return BackupPartialError(id=manifest.id, app=repository.app.name, tables=tables, hint=hint)


class PrivateRepository(Repository):
    """A repository in a private folder, whose backups are not encrypted."""

    @cached_property
    def encryption(self) -> None:
        return None


@contextmanager
def open_live_source(
    app: App, keys: DecryptionKeys, roles: RolePolicy, *, secrets: bool = False
) -> Iterator[BackupSource]:
    """Yield a backup of the live databases, which is deleted at the end; with ``secrets``, also of the passwords of their roles.

    Raises:
        As ``CreateBackup``.
    """
    with keys.staging.folder(0) as folder:
        private = PrivateRepository(app, str(folder))
        create = CreateBackup(
            private, compress="none", secrets=secrets, schema_only=(), allow_missing=False, with_files=False
        )
        created = create.apply()
        yield BackupSource(private, private.find(created.id), keys, roles)


def find_missing_folders(urls: Iterable[Url]) -> Sequence[Path]:
    """Return the parent folders of local databases, if only these folders are missing, each once.

    Raises:
        FileMissingError: the parent of such a folder is missing, too; it may be a disk that is not mounted.
    """
    paths = [Path(os.path.realpath(url.path)).parent for url in urls if url.is_local]
    folders = [path for path in dict.fromkeys(paths) if not os.path.lexists(path)]
    for folder in folders:
        if not folder.parent.is_dir():
            raise FileMissingError(kind="directory", path=folder.parent)
    return folders

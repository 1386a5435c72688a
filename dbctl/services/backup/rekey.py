"""Encrypt existing backups again, for the configured keys, without a moment at which one of them cannot be read."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial

from msgspec import structs

from dbctl import progress
from dbctl.errors.backup import (
    BackupCorruptError,
    EncryptionNotConfiguredError,
    KeyWrongError,
    RekeyRefusedError,
    RepositoryFailedError,
)
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import CorruptError
from dbctl.errors.usage import UsageError
from dbctl.files import age, compression
from dbctl.files.age import Identity
from dbctl.files.atomic import FileDigest
from dbctl.model import ChangeResult, Effect, Plan, Row, Struct
from dbctl.services.backup import deltas
from dbctl.services.backup import manifest as backup_manifest
from dbctl.services.backup.app_files import (
    BackupFailure,
    BackupOperation,
    describe_failure,
    find_status,
    name_completed,
)
from dbctl.services.backup.encryption import DecryptionKeys, is_encrypted
from dbctl.services.backup.manifest import Manifest, Member
from dbctl.services.backup.member_files import BackupWriter, open_reader, open_writer
from dbctl.services.backup.repository import Repository

#: The end of the name of an encrypted file; after the first time with the number of its encryption.
_ENDING = re.compile(r"(?:\.r([1-9][0-9]{0,8}))?\.age$")
#: Of the new files.
_FIRST_NUMBER = 2
UNVERIFIED = "no identity of this machine decrypts the new files: their content was compared before they were encrypted, not after"


#: Errors of one backup; the command continues with the next one.
SINGLE_BACKUP_ERRORS = (
    BackupCorruptError,
    CorruptError,
    KeyWrongError,
    RekeyRefusedError,
    RepositoryFailedError,
)


class BackupsRekeyed(ChangeResult, frozen=True, kw_only=True):
    """Result of ``backup rekey``."""

    is_timed = True

    repository: str
    encrypted: Sequence[str]  #: encrypted again, now
    current: Sequence[str]  #: which already had the configured keys
    plain: Sequence[str]  #: which are not encrypted, and stay so
    failed: Sequence[BackupFailure]
    not_attempted: Sequence[str]  #: remaining when an error stopped the command
    encrypted_bytes: int
    leftovers: Sequence[str]  #: files of an interrupted run that were deleted
    remarks: Sequence[str] = ()

    @property
    def effect(self) -> Effect | None:
        if not (self.encrypted or self.failed or self.leftovers):
            return None
        counts = {
            "unchanged": len(self.current),
            "leftovers deleted": len(self.leftovers),
            "failed": len(self.failed),
        }
        return Effect(
            "re-encrypted", "backup", count=len(self.encrypted), counts=counts, bytes=self.encrypted_bytes
        )

    def summary(self) -> Row:
        summary: dict[str, object] = {"repository": self.repository, "encrypted": self.encrypted}
        lists = {"current": self.current, "plain": self.plain, "leftovers": self.leftovers}
        lists["failed"] = [failure.id for failure in self.failed]
        lists["not attempted"] = self.not_attempted
        return summary | {name: values for name, values in lists.items() if values}

    @property
    def exit_status(self) -> int:
        return find_status(self.failed, self.encrypted)


class RekeyBackups(BackupOperation):
    def __init__(self, repository: Repository, names: Sequence[str], keys: DecryptionKeys) -> None:
        """Select the named backups with their bases, or all with a readable manifest.

        Raises:
            EncryptionNotConfiguredError: there are no keys for which to encrypt.
            BackupMissingError, BackupCorruptError: a named backup does not exist, or its manifest cannot be read.
            UsageError: ``--db`` selects one database.
        """
        super().__init__(repository)
        if self._app.only:
            raise UsageError(detail="--db: only complete backups can be encrypted again; omit it")
        if repository.encryption is None:
            raise EncryptionNotConfiguredError(app=self._app.name)
        self._encryption, self._keys, self._names = repository.encryption, keys, names
        self._known = dict[str, bool]()  #: whether backups have the configured keys

    def size(self) -> int:
        return sum(manifest.bytes for manifest in self._split().pending)

    def plan(self) -> Plan:
        """Return the backups to encrypt again, and why others are not; writes nothing."""
        selection = self._split()
        steps = [
            f"encrypt {manifest.id} again ({sum(member.bytes for member in _list_encrypted(manifest)):,} bytes)"
            for manifest in selection.pending
        ]
        if steps:
            steps.append(self._encryption.plan_step())
            steps += [] if self._can_verify() else [f"warning: {UNVERIFIED}"]
        steps += [
            f"delete {file} of {name}, which an interrupted run left" for name, file in selection.leftovers
        ]
        if steps:
            steps += [f"leave {manifest.id} plain: it is not encrypted" for manifest in selection.plain]
        steps += [f"refuse {name}: {reason}" for name, reason in selection.refused.items()]
        title = f"Encrypt the backups in {self._repository.store.location} for other keys"
        return self._create_plan(title, steps, destructive=bool(selection.pending))

    def apply(self, confirmed: str | None = None) -> BackupsRekeyed:
        """Encrypt each backup again, bases first; each is complete with its old files or with its new ones at any time.

        Raises:
            PlanChangedError: the plan differs from the confirmed plan; nothing was changed.
            BusyError: another dbctl process uses the repository.
            KeyMissingError, KeyInvalidError, FileMissingError, DiskFullError, StorageFailedError: the first backup failed.
        """
        store, encrypted, failed = self._repository.store, list[Manifest](), list[BackupFailure]()
        store.list_folders()  # before the lock, which would create the repository
        with self._lock(), name_completed("Encrypted", encrypted):
            self._require_confirmed(confirmed)
            selection = self._split()
            for name, reason in selection.refused.items():
                failed.append(describe_failure(name, RekeyRefusedError(id=name, reason=reason)))
            for name, file in selection.leftovers:
                with store.rewrite_folder(name) as folder:
                    folder.remove(file)
            pending = list(selection.pending)
            while pending:
                manifest, unchanged = pending.pop(0), {failure.id for failure in failed}
                try:
                    if base := next((base for base in manifest.bases if base in unchanged), ""):
                        raise RekeyRefusedError(id=manifest.id, reason=f"its base {base} was not")
                    self._rekey(manifest)
                    encrypted.append(manifest)
                except SINGLE_BACKUP_ERRORS as error:
                    failed.append(describe_failure(manifest.id, error))
                except DbctlError as error:
                    if not encrypted:
                        raise
                    failed.append(describe_failure(manifest.id, error))
                    break
        return BackupsRekeyed(
            repository=store.location,
            encrypted=[manifest.id for manifest in encrypted],
            current=[manifest.id for manifest in selection.current],
            plain=[manifest.id for manifest in selection.plain],
            failed=failed,
            not_attempted=[manifest.id for manifest in pending],
            encrypted_bytes=sum(manifest.bytes for manifest in encrypted),
            leftovers=[f"{name}/{file}" for name, file in selection.leftovers],
            remarks=list(self._list_remarks(encrypted, failed)),
        )

    def _list_remarks(self, encrypted: Sequence[Manifest], failed: Sequence[BackupFailure]) -> Iterator[str]:
        yield from (failure.message for failure in failed)
        if encrypted and not self._can_verify():
            yield UNVERIFIED
        if encrypted and self._repository.store.read_protection(encrypted[-1].id).keeps_versions:
            yield f"{self._repository.store.location} keeps the files for the previous keys as old versions; delete these versions there"

    # Selection -----------------------------------------------------------------------------------------------------

    def _split(self) -> _Selection:
        known, unreadable = self._repository.manifests()
        selected: Sequence[Manifest] = known
        if self._names:
            ids = _add_related([manifest.id for manifest in self._repository.find_all(self._names)], known)
            unreadable = {}
            selected = [manifest for manifest in known if manifest.id in ids]
        refused = {name: f"its manifest: {reason}" for name, reason in unreadable.items()}
        plain = list[Manifest]()
        current = list[Manifest]()
        pending = list[Manifest]()
        leftovers = list[tuple[str, str]]()
        for manifest in deltas.sort_bases_first(selected):
            if not is_encrypted(manifest):
                plain.append(manifest)
                continue
            try:
                leftovers += [(manifest.id, file) for file in self._find_leftovers(manifest)]
            except RepositoryFailedError as error:
                refused[manifest.id] = str(error.context["reason"])
                continue
            if self._is_current(manifest):
                current.append(manifest)
            elif refusal := self._repository.store.read_protection(manifest.id).refusal:
                refused[manifest.id] = f"its files are {refusal}"
            else:
                pending.append(manifest)
        return _Selection(pending=pending, current=current, plain=plain, leftovers=leftovers, refused=refused)

    def _is_current(self, manifest: Manifest) -> bool:
        """Whether the files of a backup have the configured keys; a passphrase, slow by design, is tried once."""
        key = manifest.key_member.sha256 if manifest.key_member else manifest.id
        if key not in self._known:
            self._known[key] = self._encryption.is_current(self._repository.store, manifest)
        return self._known[key]

    def _find_leftovers(self, manifest: Manifest) -> Sequence[str]:
        """Return the files that an interrupted run left in the folder of a backup."""
        files = {member.file for member in manifest.files}
        stems = {_ENDING.sub("", file) for file in files} | {f"key_{manifest.id}"}
        stored = self._repository.store.list_files(manifest.id)
        return [
            file
            for file in stored
            if file not in files and _ENDING.search(file) and _ENDING.sub("", file) in stems
        ]

    def _can_verify(self) -> bool:
        """Whether this machine decrypts what it encrypts."""
        return self._encryption.can_be_decrypted_by(self._keys)

    # One backup ----------------------------------------------------------------------------------------------------

    def _rekey(self, manifest: Manifest) -> None:
        """Add the new files to the folder of a backup, replace its manifest, and delete the old files.

        Raises:
            CorruptError: a file does not match the manifest; nothing was changed.
            KeyWrongError: no key decrypts it; nothing was changed.
        """
        store, encrypted = self._repository.store, _list_encrypted(manifest)
        if encrypted:
            self._keys.prepare(store, manifest)
        store.require_space(sum(member.bytes for member in encrypted), staged=False)
        numbers = [_ENDING.search(file) for file in store.list_files(manifest.id)]
        number = (
            max((int(match[1]) for match in numbers if match and match[1]), default=_FIRST_NUMBER - 1) + 1
        )
        largest = max((member.inner_bytes for member in encrypted), default=0)
        with (
            store.rewrite_folder(manifest.id) as folder,
            open_writer(folder, f"{manifest.id}.r{number}", self._encryption, largest) as writer,
        ):
            identities = self._encryption.find_identities(writer.key, self._keys)
            new = {
                member.file: self._encrypt(manifest, member, writer, number, identities)
                for member in encrypted
            }
            members = [
                self._refresh(manifest, new.get(member.file, member))
                for member in manifest.members
                if member.form != "key"
            ]
            changed = structs.replace(
                manifest, members=[*members, *writer.write_key()], recipients=writer.recipients
            )
            folder.write_manifest(backup_manifest.serialize(changed))
            old = [*encrypted, *filter(None, [manifest.key_member])]
            for member in old:
                folder.remove(member.file)

    def _encrypt(
        self,
        manifest: Manifest,
        member: Member,
        writer: BackupWriter,
        number: int,
        identities: Sequence[Identity],
    ) -> Member:
        """Store a file of a backup again, for the keys of the writer; return it as a member."""
        store, target = self._repository.store, f"backup {manifest.id}"
        stem = _ENDING.sub("", member.file)
        with open_reader(store, self._keys) as reader:
            plain = writer.path_for(f"{stem}.r{number}")
            decoded = compression.decompress_file(
                reader.stored_path(manifest.id, member),
                plain,
                "none",
                expected_bytes=member.inner_bytes,
                target=target,
                decrypt=partial(
                    age.decrypt,
                    identities=self._keys.identities_for(store, manifest),
                    target=target,
                    name=member.file,
                ),
            )
        content = FileDigest(bytes=member.inner_bytes, sha256=member.inner_sha256)
        if decoded.stored.sha256 != member.sha256 or decoded.inner != content:
            raise CorruptError(
                target=target, reason=f"{member.file}: its SHA-256 does not match the manifest"
            )
        new = writer.store(plain.name)
        plain.unlink()
        stored = FileDigest(bytes=new.inner_bytes, sha256=new.inner_sha256)
        if identities:
            stored = self._decrypt(manifest.id, new, identities)
        if stored != content:
            raise CorruptError(target=target, reason=f"{new.file}: its content is not that of {member.file}")
        progress.advance(member.bytes)
        return structs.replace(member, file=new.file, bytes=new.bytes, sha256=new.sha256)

    def _decrypt(self, folder: str, new: Member, identities: Sequence[Identity]) -> FileDigest:
        """Return the digest of the content of a new file, as the store returns it."""
        target, blocks = f"backup {folder}", self._repository.store.read(folder, new.file)
        decrypt = partial(age.decrypt, identities=identities, target=target, name=new.file)
        return compression.hash_content(blocks, "none", target=target, name=new.file, decrypt=decrypt).inner

    def _refresh(self, manifest: Manifest, member: Member) -> Member:
        """Return a member with the present name and checksum of a file that another backup has."""
        if not member.stored_in:
            return member
        _, stored = deltas.read_holder(self._repository.store, manifest, member, f"backup {manifest.id}")
        return structs.replace(stored, stored_in=member.stored_in)


class _Selection(Struct, frozen=True, kw_only=True):
    """The selected backups."""

    pending: Sequence[Manifest]
    current: Sequence[Manifest]  #: with the configured keys, or without files of their own
    plain: Sequence[Manifest]
    leftovers: Sequence[tuple[str, str]]  #: backups and files in their folders
    refused: Mapping[str, str]  #: by id: why


def _list_encrypted(manifest: Manifest) -> list[Member]:
    return [member for member in manifest.files if member.encryption != "none"]


def _add_related(ids: Collection[str], manifests: Sequence[Manifest]) -> set[str]:
    """Return the ids of backups, and of all that are related to them as bases: their readers must be the same."""
    related, dependents = set(ids), deltas.find_dependents(manifests)
    while True:
        extended = deltas.add_bases(related, manifests)
        extended |= {dependent for name in extended for dependent in dependents.get(name, ())}
        if extended == related:
            return related
        related = extended

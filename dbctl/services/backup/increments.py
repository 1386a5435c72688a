"""Incremental backups: the choice of a base, its signature on this machine, and members as differences from it, or unchanged."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import chain
from pathlib import Path

from msgspec import structs

from dbctl.config import environment
from dbctl.config.model import BackupConfig
from dbctl.errors.backup import RepositoryFailedError
from dbctl.errors.connection import (
    ClientFailedError,
    CorruptError,
    DiskFullError,
    FileFailedError,
    InsufficientSpaceError,
    report_file_errors,
)
from dbctl.files import compression, rdiff, temp
from dbctl.files.atomic import create_file, hash_blocks
from dbctl.files.codecs import SUFFIXES
from dbctl.files.temp import run_in_parallel
from dbctl.model import Compression, Struct, now
from dbctl.progress import Progress
from dbctl.services.app import clock
from dbctl.services.backup import deltas
from dbctl.services.backup.manifest import Delta, Manifest, Member
from dbctl.services.backup.member_files import BackupWriter, hash_file, open_reader
from dbctl.services.backup.repository import Repository
from dbctl.stores.directory import DirectoryStore
from dbctl.units import parse_duration

#: The largest share of the content of its base that a difference may have; a larger one is stored in full. Sixty days with ``cluster`` on
#: PostgreSQL, pruned by usual rules, need 43 % of the bytes of full copies with 1/2, and 45 to 50 % with 1/3, which makes more bases.
MAX_SHARE = 0.5
#: The end of the name of a stored difference, before that of its compression.
DELTA_SUFFIX = ".delta"
#: Follows the name of a series in those of temporary folders.
_NEW = "-new-"
#: The reasons for a full member that need no remark.
REQUESTED, FIRST = "it was requested", "there is no base"


class Base(Struct, frozen=True, kw_only=True):
    """A member that can be the base of a new one."""

    manifest: Manifest
    member: Member
    signature: Path


class Copy(Struct, frozen=True, kw_only=True):
    """A database of which a new backup has a copy."""

    compress: Compression
    database: str
    engine: str
    target: str  #: for messages
    schema_only: Sequence[str] = ()  #: the tables whose rows are left out


class NewContent(Copy, frozen=True, kw_only=True, dict=True):
    path: Path  #: the file that the engine reads
    file: str  #: the name of the member, if it is stored in full
    facts: Mapping[str, str]  #: as those of a member

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the content, for which the file is read once."""
        return hash_file(self.path)


class _TooLargeError(Exception):
    """The difference is too large to be worth its base."""


class Increments:
    """The bases of new members of one repository."""

    def __init__(self, repository: Repository, settings: BackupConfig, *, full: bool) -> None:
        """Set the options; with ``full``, all members are stored in full."""
        self._repository, self._settings, self._full = repository, settings, full
        state = environment.app_state_folder(repository.app.configured)
        self._folder = state and state / "signatures"
        self._identities = state and state / "identities"
        self._known = dict[str, bool]()  #: by id: whether a backup has the configured keys
        self.manifests: Sequence[Manifest] = ()  #: the backups of the repository, newest first
        #: why members are stored in full that the admin expects to be differences
        self.remarks: list[str] = []

    def find_base(self, database: str, engine: str) -> Base | str:
        """Return the base of a new member, or why it is stored in full."""
        if self._full:
            return REQUESTED
        bases = (
            (manifest, member)
            for manifest, member in self._list_members(database)
            if not (member.delta or member.stored_in)
        )
        manifest, member = next(bases, (None, None))
        if manifest is None or member is None:
            return FIRST
        obstacles = chain(
            self._list_obstacles(manifest, member, engine), self._list_delta_obstacles(manifest)
        )
        if obstacle := next(obstacles, ""):
            return obstacle
        if (signature := self._find_signature(manifest.id, member)) is None:
            return f"this machine has no signature of {manifest.id}"
        return Base(manifest=manifest, member=member, signature=signature)

    def _list_members(self, database: str) -> Iterator[tuple[Manifest, Member]]:
        """Yield the copies of a database, newest first, with their backups; without those from before the app was renamed, which no copy accepts, or the database was moved."""
        app = self._repository.app
        owner = (app.name, app.profile.name)
        for manifest in self._repository.select_own(self.manifests, database):
            is_own = manifest.origin is None and (manifest.app, manifest.profile) == owner
            if manifest.kind == "backup" and is_own:
                for member in manifest.members:
                    if member.database == database and member.content_sha256:
                        yield manifest, member

    def _list_obstacles(self, manifest: Manifest, member: Member, engine: str) -> Iterator[str]:
        """Yield why no new member may require one."""
        if member.engine != engine:
            yield f"{manifest.id} is of {member.engine}"
        if now() - manifest.created_at > parse_duration(self._settings.full_every):
            yield f"{manifest.id} is older than {self._settings.full_every}"
        # It has to be deleted before backups are pruned again, and would take its differences with it.
        if clock.find_future([(manifest.id, manifest.created_at)]):
            yield f"{manifest.id} is from the future"
        if damage := self._repository.find_damage(manifest):
            yield f"{manifest.id} is damaged: {damage}"
        if not self._has_same_readers(manifest, member):
            yield f"{manifest.id} is encrypted in another way"

    def _list_delta_obstacles(self, manifest: Manifest) -> Iterator[str]:
        """Yield why there will be no difference from the files of a backup."""
        dependents = [
            dependent
            for dependent in self.manifests
            if any(member.delta and member.delta.backup == manifest.id for member in dependent.files)
        ]
        if len(dependents) >= self._settings.max_dependents:
            yield f"{manifest.id} is the base of {len(dependents)} backups"
        if rdiff.find_program() is None:
            yield f"{rdiff.PROGRAM} is not installed (package {rdiff.PACKAGE})"
        if self._folder is None:
            yield "this machine has no directory for state, which would have the signature of its base"

    def _has_same_readers(self, manifest: Manifest, member: Member) -> bool:
        """Return whether everyone who can decrypt a new backup can decrypt a base, as far as the configuration shows."""
        encryption = self._repository.encryption
        if member.encryption == "none" or encryption is None:
            return member.encryption == "none" and encryption is None
        if manifest.id not in self._known:  # to unlock a key is slow by design
            self._known[manifest.id] = encryption.is_current(self._repository.store, manifest)
        return self._known[manifest.id]

    def find_unchanged(
        self, copy: Copy, sha256: str, facts: Mapping[str, str] | None = None
    ) -> Member | None:
        """Return a reference to the newest copy of a database, if that has this content and can be the base of a new one.

        ``facts``: of a new copy with this content; if given, they must be the same, and the files in a directory are compared with
        their manifests.
        """
        manifest, member = next(self._list_members(copy.database), (None, None))
        if self._full or manifest is None or member is None or member.content_sha256 != sha256:
            return None
        # Empty tables have the same content with and without their rows.
        has_same_rows = list(member.schema_only) == list(copy.schema_only)
        if member.compress != copy.compress or not has_same_rows or facts not in (None, member.content_facts):
            return None
        if member.delta and rdiff.find_program() is None:  # it cannot be restored here
            return None
        store = self._repository.store
        reference = structs.replace(member, stored_in=member.stored_in or manifest.id)
        try:
            holder, stored = deltas.read_holder(store, manifest, reference, copy.target)
            files = [(holder, stored)]
            files += [deltas.read_base(store, stored, stored.delta, copy.target)] if stored.delta else []
            compares = facts is not None and isinstance(store, DirectoryStore)
            for backup, file in files:
                obstacle = next(self._list_obstacles(backup, file, copy.engine), "")
                if obstacle or (
                    compares and hash_blocks(store.read(backup.id, file.file)).sha256 != file.sha256
                ):
                    return None
        except (CorruptError, RepositoryFailedError):
            return None  # stored again, if possible as the difference from another base
        return reference

    def find_known(self, copy: Copy, identity: str) -> Member | None:
        """Return a reference as ``find_unchanged`` for a database whose files have an identity (``Dumps.read_identity``)."""
        if not (identity and self._identities):
            return None
        prefix = self._name_identity(copy, identity)
        known = (path.name.removeprefix(prefix) for path in self._identities.glob(f"{prefix}*"))
        return next(filter(None, (self.find_unchanged(copy, sha256) for sha256 in known)), None)

    def save_identity(self, copy: Copy, identity: str, sha256: str) -> None:
        """Record the content of the files with an identity; a failure is a remark, because the next backup only takes longer."""
        if not self._identities:
            return
        try:
            with report_file_errors(self._identities):
                self._identities.mkdir(parents=True, exist_ok=True, mode=0o700)
                series = self._name_series(copy.database, copy.engine)
                for older in self._identities.glob(f"{series}-*"):
                    older.unlink(missing_ok=True)
                (self._identities / f"{self._name_identity(copy, identity)}{sha256}").touch(mode=0o600)
        except (FileFailedError, DiskFullError) as error:
            self.remarks.append(
                f"the next backup of {copy.target} will read it, even if it is unchanged: {error}"
            )

    def _name_identity(self, copy: Copy, identity: str) -> str:
        series = self._name_series(copy.database, copy.engine)
        return f"{series}-{hashlib.sha256(identity.encode()).hexdigest()}-"

    def store(self, writer: BackupWriter, content: NewContent, progress: Progress) -> Member:
        """Store the content of a database as the difference from its base, otherwise in full; return its member.

        Without a change since its newest copy, the member refers to that.
        """
        newest = next((member for _, member in self._list_members(content.database)), None)
        may_be_same = not self._full and newest and newest.size == content.path.stat().st_size
        # Otherwise the content is hashed while it is stored.
        if may_be_same and (reference := self.find_unchanged(content, content.sha256, content.facts)):
            return reference
        base = self.find_base(content.database, content.engine)
        if isinstance(base, Base):
            try:
                return self._store_delta(writer, content, base)
            except _TooLargeError:
                reason = f"more than half of {base.manifest.id} changed"
            except (CorruptError, ClientFailedError) as error:
                writer.discard(name_delta(content.path.name, content.compress))
                reason = f"its difference from {base.manifest.id} cannot be used: {error.context['reason']}"
        else:
            reason = base
        if reason not in (REQUESTED, FIRST):
            self.remarks.append(f"{content.target} is stored in full: {reason}")

        def store_full() -> Member:
            if content.compress == "none":
                return writer.store(content.file)
            return writer.compress(content.path, content.file, content.compress, progress)

        sha256, stored = run_in_parallel(lambda: content.sha256, store_full)
        member = structs.replace(stored, content_sha256=sha256)
        self._save_signature(writer.name, content, sha256)
        return member

    def _store_delta(self, writer: BackupWriter, content: NewContent, base: Base) -> Member:
        """Store the difference from a base, and compare its result if the base can be read here without a key, and fits.

        Raises:
            _TooLargeError: it is not worth its base; it was deleted.
            CorruptError: the base is damaged, or the result is not the content.
            ClientFailedError: rdiff failed.
            DiskFullError: the difference does not fit.
        """
        # A killed process may have left the signature of a backup that does not exist.
        temp.remove_abandoned(
            base.signature.parent, f"{self._name_series(content.database, content.engine)}{_NEW}"
        )
        if not isinstance(self._repository.store, DirectoryStore) or base.member.encryption != "none":
            return self._write_delta(writer, content, base, compare=False)
        try:
            return self._write_delta(writer, content, base, compare=True)
        except (InsufficientSpaceError, DiskFullError) as error:
            # The content of the base may have taken the space of the difference.
            writer.discard(name_delta(content.path.name, content.compress))
            member = self._write_delta(writer, content, base, compare=False)
            self.remarks.append(
                f"the difference of {content.target} is stored, but was not applied to {base.manifest.id}: {error}"
            )
            return member

    def _write_delta(self, writer: BackupWriter, content: NewContent, base: Base, *, compare: bool) -> Member:
        """Store the difference, and ``compare`` its result; raises as ``_store_delta``, and if the content of the base does not fit."""
        store, file = self._repository.store, name_delta(content.path.name, content.compress)
        with open_reader(store, None) as reader:

            def read_contents() -> tuple[str, Path | None]:
                sha256 = content.sha256
                return sha256, (
                    reader.decode_base(base.manifest, base.member, content.target) if compare else None
                )

            def write_delta() -> Member:
                blocks = rdiff.create_delta(base.signature, content.path, content.target)
                max_bytes = int(MAX_SHARE * base.member.size)
                return writer.compress_blocks(_limit(blocks, max_bytes), file, content.compress)

            (sha256, base_path), stored = run_in_parallel(read_contents, write_delta)
            delta = Delta(
                backup=base.manifest.id,
                file=base.member.file,
                content_sha256=base.member.content_sha256,
                bytes=content.path.stat().st_size,
                applied=base_path is not None,
            )
            member = structs.replace(stored, content_sha256=sha256, delta=delta)
            if base_path is not None:
                self._compare(writer.path_for(file), base_path, member, content.target)
        return member

    def _compare(self, path: Path, base: Path, member: Member, target: str) -> None:
        """Apply a stored difference to its base; raises ``CorruptError`` if the result is not the content."""
        with self._repository.store.temp_dir(member.decoded_bytes) as folder:
            plain = folder / path.name
            compression.decompress_file(
                path, plain, member.compress, expected_bytes=member.decoded_bytes, target=target
            )
            for _ in deltas.build_content(base, plain, member, target):
                pass

    def _find_signature(self, backup: str, member: Member) -> Path | None:
        """Return the signature of a base on this machine; None: there is none, or it was changed."""
        if self._folder is None:
            return None
        prefix = f"{self._name_series(member.database, member.engine)}-{backup}-{member.content_sha256[:16]}-"
        with suppress(OSError, FileFailedError):
            for path in self._folder.glob(f"{prefix}*"):
                if path.name == f"{prefix}{hash_file(path)}":
                    return path
        return None

    def _save_signature(self, backup: str, content: NewContent, sha256: str) -> None:
        """Replace the signature of a database; a failure is a remark, because the next backup is only larger."""
        if self._folder is None or rdiff.find_program() is None:
            return
        series = self._name_series(content.database, content.engine)
        block = rdiff.choose_block_size(content.path.stat().st_size)
        try:
            with report_file_errors(self._folder):
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                with temp.folder(self._folder, f"{series}{_NEW}") as folder:
                    with create_file(folder / series) as file:
                        for written in rdiff.create_signature(content.path, block, content.target):
                            file.write(written)
                    for older in self._folder.glob(f"{series}-[0-9]*"):
                        older.unlink()
                    name = f"{series}-{backup}-{sha256[:16]}-{file.counter.digest.sha256}"
                    (folder / series).rename(self._folder / name)
        except (FileFailedError, DiskFullError, ClientFailedError) as error:
            self.remarks.append(f"the next backup of {content.target} will be full, too: {error}")

    def _name_series(self, database: str, engine: str) -> str:
        address = self._repository.app.find_address(database)
        place = f"{self._repository.store.location}\0{database}\0{engine}\0{address}"
        return hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()[:16]


def name_delta(plain_file: str, compress: Compression) -> str:
    """Return the name of the difference of a file."""
    return f"{plain_file}{DELTA_SUFFIX}{SUFFIXES[compress]}"


def _limit(blocks: Iterator[bytes], max_bytes: int) -> Iterator[bytes]:
    """Yield the blocks, and raise ``_TooLargeError`` after too many bytes."""
    total = 0
    for block in blocks:
        total += len(block)
        if total > max_bytes:
            raise _TooLargeError
        yield block

"""Members that require an earlier backup, their base: as the difference from its content, or because it has their file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from graphlib import TopologicalSorter
from pathlib import Path

from msgspec import structs

from dbctl.errors.backup import RepositoryFailedError
from dbctl.errors.connection import CorruptError
from dbctl.files import rdiff
from dbctl.files.atomic import FileDigest, HashingCounter
from dbctl.model import group
from dbctl.services.backup import manifest as backup_manifest
from dbctl.services.backup.manifest import Delta, Manifest, ManifestInvalidError, Member, omit_encryption
from dbctl.stores.base import Store

#: Why a backup cannot be the base.
MISSING = "it does not exist"


def read_base(store: Store, member: Member, delta: Delta, target: str) -> tuple[Manifest, Member]:
    """Return the base of a member, and the manifest of its backup.

    Raises:
        CorruptError: it is missing, or cannot be the base.
        RepositoryFailedError: the repository cannot be read.
    """
    manifest = _read_manifest(store, member, delta.backup, target)
    base = _find_base(manifest, member, delta)
    if isinstance(base, str):
        raise _base_error(target, member, delta.backup, base)
    return manifest, base


def read_holder(store: Store, manifest: Manifest, member: Member, target: str) -> tuple[Manifest, Member]:
    """Return the backup whose folder has the file of a member, and the member as one of its own.

    Raises:
        CorruptError: another backup should have it, but is missing, or has another file.
        RepositoryFailedError: the repository cannot be read.
    """
    if not member.stored_in:
        return manifest, member
    holder = _read_manifest(store, member, member.stored_in, target)
    stored = _find_stored(holder, member)
    if isinstance(stored, str):
        raise _base_error(target, member, member.stored_in, stored)
    return holder, structs.replace(
        member, stored_in="", file=stored.file, bytes=stored.bytes, sha256=stored.sha256
    )


def reread(store: Store, manifest: Manifest) -> Manifest:
    """Return the manifest of a backup as it is now: ``backup rekey`` may have replaced it since it was read."""
    try:
        text = store.read_manifest(manifest.id)
        current = manifest if text is None else backup_manifest.parse(text)
    except (ManifestInvalidError, RepositoryFailedError):
        return manifest
    return current if omit_encryption(current) == omit_encryption(manifest) else manifest


def find_replaced(store: Store, manifest: Manifest, member: Member) -> tuple[Manifest, Member] | None:
    """Return the manifest by which ``backup rekey`` replaced one, and a file of the backup as it is there; None: it did not."""
    current = reread(store, manifest)
    content = [[member for member in each.members if member.form != "key"] for each in (manifest, current)]
    pairs = zip(*content, strict=True)
    replaced = next((new for old, new in pairs if not old.stored_in and old.file == member.file), None)
    return None if current == manifest or replaced is None else (current, replaced)


def _find_file(manifest: Manifest, file: str, database: str, content_sha256: str) -> Member | None:
    """Return the member with a file of a backup to which a later one refers; None if it has none.

    After ``backup rekey``, that has another name, and is the encrypted file with the same content.
    """
    members = manifest.members
    if named := next((member for member in members if member.file == file), None):
        return named
    same = (
        member
        for member in members
        if member.encryption != "none"
        and not member.stored_in
        and (member.database, member.content_sha256) == (database, content_sha256)
    )
    return next(same, None) if content_sha256 else None


def _read_manifest(store: Store, member: Member, backup: str, target: str) -> Manifest:
    text = store.read_manifest(backup)
    if text is None:
        raise _base_error(target, member, backup, MISSING)
    try:
        return backup_manifest.parse(text)
    except ManifestInvalidError as error:
        raise _base_error(target, member, backup, f"its manifest: {error}") from error


def _find_stored(manifest: Manifest, member: Member) -> Member | str:
    """Return the file of a backup that a member of a later one has, or why there is none, as far as the manifests show."""
    stored = _find_file(manifest, member.file, member.database, member.content_sha256)
    if manifest.id != member.stored_in:
        return f"its manifest is that of {manifest.id}"
    if stored is None:
        return f"it has no file {member.file}"
    if stored.stored_in:
        return f"{member.file} is in {stored.stored_in}"
    same = structs.replace(
        stored,
        stored_in=member.stored_in,
        taken_at=member.taken_at,
        foreign=member.foreign,
        facts=member.facts,
    )
    # perhaps encrypted again, also in each of two repositories by the same name, which changes neither of the other checksums
    if stored.inner_sha256:
        same = structs.replace(same, file=member.file, bytes=member.bytes, sha256=member.sha256)
    is_same = same == member and stored.content_facts == member.content_facts
    return stored if is_same else f"its manifest describes {member.file} in another way"


def _find_base(manifest: Manifest, member: Member, delta: Delta) -> Member | str:
    """Return the file of a backup that is the base of a member, or why none is, as far as the manifests show."""
    base = _find_file(manifest, delta.file, member.database, delta.content_sha256)
    if manifest.id != delta.backup:
        return f"its manifest is that of {manifest.id}"
    if base is None:
        return f"it has no file {delta.file}"
    if base.delta or base.stored_in or base.content_sha256 != delta.content_sha256:
        return f"{delta.file} has other content than the base"
    # Otherwise the content of an encrypted base would be written where its readers are not its recipients.
    if base.encryption != member.encryption:
        return f"{delta.file} is not encrypted as the difference is"
    return base


def build_content(base: Path, delta_path: Path, member: Member, target: str) -> Iterator[bytes]:
    """Yield the content of a member with a ``delta``; an error at the end means that all of it is invalid.

    ``base`` is the content of its base, as ``MemberReader.decode_base`` returns it, and ``delta_path`` its own file, decrypted and
    decompressed.

    Raises:
        CorruptError: the content does not match the manifest.
        ClientMissingError, ClientFailedError: rdiff is not installed, or was killed.
    """
    delta = member.delta
    if delta is None:
        raise RuntimeError(f"{member.file} has no base")
    content = HashingCounter()
    try:
        for block in content.count(rdiff.apply_delta(base, delta_path, target)):
            if content.bytes > delta.bytes:
                break  # a hostile difference may have no end
            yield block
    except CorruptError as error:
        raise CorruptError(target=target, reason=f"{member.file}: {error.context['reason']}") from error
    if content.digest != FileDigest(bytes=delta.bytes, sha256=member.content_sha256):
        reason = f"{member.file}: its content, built from {delta.backup}, does not match the manifest"
        raise CorruptError(target=target, reason=reason)


def _base_error(target: str, member: Member, backup: str, reason: str) -> CorruptError:
    return CorruptError(target=target, reason=f"{member.file} requires the base {backup}, but {reason}")


def find_dependents(manifests: Sequence[Manifest]) -> Mapping[str, list[str]]:
    """Return, by the id of each backup with a base, the ids of the backups that require it, in the order of ``manifests``."""
    return group((base, manifest.id) for manifest in manifests for base in manifest.bases)


def sort_bases_first(manifests: Sequence[Manifest]) -> list[Manifest]:
    """Return backups in an order in which each one follows its bases, as far as they are among them."""
    by_id = {manifest.id: manifest for manifest in manifests}
    # A base has a smaller number. In forged manifests, bases could otherwise require each other.
    graph = {
        manifest.id: [
            base for base in manifest.bases if base in by_id and by_id[base].number < manifest.number
        ]
        for manifest in manifests
    }
    return [by_id[backup_id] for backup_id in TopologicalSorter(graph).static_order()]


def add_bases(ids: Collection[str], manifests: Sequence[Manifest]) -> set[str]:
    """Return the ids of backups, and those of all backups that they require."""
    required, by_id = set(ids), {manifest.id: manifest for manifest in manifests}
    pending = list(ids)
    while pending:
        manifest = by_id.get(pending.pop())
        new = [base for base in (manifest.bases if manifest else ()) if base not in required]
        required.update(new)
        pending += new
    return required


def find_damaged_bases(
    manifests: Sequence[Manifest], damaged: Mapping[str, str], unreadable: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield the id of each backup whose base is missing or damaged, and the reason; ``unreadable``: why other manifests cannot be read."""
    by_id = {manifest.id: manifest for manifest in manifests}
    for manifest in manifests:
        required = [
            (member, backup, by_id.get(backup), find)
            for member in manifest.members
            for backup, find in _list_required(member)
        ]
        for member, backup, base, find in required:
            missing = f"its manifest: {unreadable[backup]}" if backup in unreadable else MISSING
            stored = find(base) if base else missing
            if reason := stored if isinstance(stored, str) else damaged.get(backup, ""):
                yield manifest.id, f"{member.file} requires the base {backup}, but {reason}"
                break


def _list_required(member: Member) -> Iterator[tuple[str, Callable[[Manifest], Member | str]]]:
    """Yield the backups that a member requires, each with what finds its file there, or why there is none."""
    if member.stored_in:
        yield member.stored_in, lambda manifest: _find_stored(manifest, member)
    if delta := member.delta:
        yield delta.backup, lambda manifest: _find_base(manifest, member, delta)

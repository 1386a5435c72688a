"""Manifest of a backup: the last file written to its folder. A folder without one is not a backup."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, TypeAlias, get_args

import msgspec
from msgspec import structs

from dbctl.engines.contract.dumps import Dump
from dbctl.files.codecs import SUFFIXES
from dbctl.model import JSON_ERRORS, Compression, Struct
from dbctl.services.app.app import App

#: Reason for a backup: requested by the user (``backup``; ``partial``: only some tables; ``recovered``: as of an earlier moment), before
#: a restore (``safety``), or before a destructive migration (``migration``). ``physical``: the files of a server, and ``log``: a part of
#: its log, from which a recovery makes a backup of one database.
Kind = Literal["backup", "partial", "safety", "migration", "recovered", "physical", "log"]
#: ``dump``: a consistent copy of the database. ``raw``: its unreadable files, copied unchanged. ``kept``: a script that
#: restores the retained database, which is on its server under another name. ``files``: the app's own files. ``passwords``:
#: what the server of a database stores for the passwords of its roles. ``key``: the identity that decrypts the other
#: members, protected by a passphrase. ``physical``, ``log``: the files of those kinds of backups.
Form = Literal["dump", "raw", "kept", "files", "passwords", "key", "physical", "log"]
#: Encryption format of a member.
Encryption = Literal["none", "age"]
#: The fact with the number of a part of the log of a server; of a copy, that of the newest part before it; 0: there was none.
SEQUENCE = "sequence"
#: The fact of a dump with the first moment that it and the log have; a physical copy has it from its own time on.
SINCE = "recoverable_since"
#: The fact of a part of a log, a copy or a safety backup with the times of the restores since the part before it.
RESTORED = "restored_at"
_SEQUENCE_VALUE = re.compile(r"[0-9]{1,15}")
#: The fact that each file of a form has.
_REQUIRED_FACTS: Mapping[str, str] = {"kept": "kept", "passwords": "database"}
#: A time with a time zone.
Timestamp = Annotated[datetime, msgspec.Meta(tz=True)]
#: The limit leaves space for later increments.
Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]


class Delta(Struct, frozen=True, kw_only=True):
    """The base of a member that is stored as the difference from it: a member of an earlier backup of the same repository."""

    backup: str  #: its id
    file: str  #: of the base, which is no difference itself
    content_sha256: str  #: of the content of the base
    bytes: Count  #: of the content of this member
    applied: bool  #: whether the difference was applied to the base, and the result compared, when the backup was created


class Member(Struct, frozen=True, kw_only=True):
    """One file of a backup."""

    database: str  #: empty for the app's own files, for passwords and for the key
    file: str
    bytes: Count  #: as stored, after compression and encryption
    sha256: str
    encryption: Encryption = "none"
    inner_bytes: Count = 0  #: of an encrypted file: its size after ``age --decrypt``
    inner_sha256: str = ""  #: of the decrypted file
    compress: Compression = "none"  #: applied after the engine wrote the dump
    plain_bytes: Count = 0  #: of a compressed file: its decompressed size
    #: of what its engine reads; empty: not recorded, so it is no base of a difference
    content_sha256: str = ""
    delta: Delta | None = None  #: its base; None: the file has the whole content
    #: the id of the earlier backup whose folder has the file, because the database had not changed since; empty: its own folder
    stored_in: str = ""
    form: Form = "dump"
    only: Sequence[str] = ()  #: the tables of a partial dump
    schema_only: Sequence[str] = ()  #: the tables whose rows were left out
    engine: str
    taken_at: Timestamp  #: the time of its data
    rows: Mapping[str, Count]  #: by table
    schema: str  #: fingerprint of the schema; empty if unknown
    digests: Mapping[str, str] = {}  #: content digests of small tables
    facts: Mapping[str, str]  #: metadata of the engine that is not in the file
    foreign: bool = False  #: whether another program may have created it: a scratch role loads it

    @property
    def size(self) -> int:
        """Size of the file that its engine reads, in bytes."""
        return self.delta.bytes if self.delta else self.decoded_bytes

    @property
    def decoded_bytes(self) -> int:
        """Size of its own file in bytes, decrypted and decompressed."""
        if self.compress != "none":
            return self.plain_bytes
        return self.bytes if self.encryption == "none" else self.inner_bytes

    @property
    def content_facts(self) -> Mapping[str, str]:
        """Its facts without the position in the stored log, of which each reference to a file has its own."""
        return {name: value for name, value in self.facts.items() if name not in (SEQUENCE, SINCE, RESTORED)}

    @property
    def dump(self) -> Dump:
        """The metadata that an engine requires to load it."""
        form: Literal["dump", "kept"] = "kept" if self.form == "kept" else "dump"
        return Dump(
            form=form,
            metadata=self.facts,
            tables=self.rows,
            schema=self.schema,
            digests=self.digests,
            is_partial=bool(self.only),
            foreign=self.foreign,
        )


def describe_members(members: Sequence[Member]) -> list[str]:
    """Return the databases that did not change, with the backups that have their files, and the tables whose rows were left out."""
    return [
        *(f"{member.database} unchanged since {member.stored_in}" for member in members if member.stored_in),
        *(
            f"without the rows of {', '.join(member.schema_only)} of {member.database}"
            for member in members
            if member.schema_only
        ),
    ]


class OmittedDatabase(Struct, frozen=True, kw_only=True):
    """A database that is not in the backup."""

    database: str
    reason: str
    failed: bool = False  #: it was selected, but could not be copied


class Origin(Struct, frozen=True, kw_only=True):
    """The source of an adopted backup."""

    path: str
    sha256: str  #: of the decompressed file, or of the manifest of a folder
    time: str  #: description of the source of its time


class AuditEnd(Struct, frozen=True, kw_only=True):
    """The end of the audit log when the backup was made, so that a log that was truncated or replaced later is detected."""

    folder: str  #: of the log, on the host of the backup
    anchor: str  #: ``SEQUENCE:HASH:LOG``


class Manifest(Struct, frozen=True, kw_only=True):
    """One backup."""

    id: str  #: YYYYMMDD_HHMMSS in UTC, the name of its folder
    number: Count  #: increases with each backup: the time in seconds, or more after the clock was set back
    kind: Kind
    app: str
    profile: str
    created_at: Timestamp
    verified_at: Timestamp  #: last successful verification when the manifest was written
    host: str
    dbctl: str
    restored: str = ""  #: of a safety backup: the id of the backup restored after it
    origin: Origin | None = None  #: of an adopted backup
    recipients: Sequence[str] = ()  #: public keys for which its files are encrypted
    addresses: Mapping[
        str, str
    ] = {}  #: where its databases were, by name, the first of ``App.addresses``; empty for an adopted one
    members: Sequence[Member]
    left_out: Sequence[OmittedDatabase]
    audit: AuditEnd | None = None  #: None: nothing was recorded

    @property
    def files(self) -> Sequence[Member]:
        """The members whose files are in its own folder."""
        return [member for member in self.members if not member.stored_in]

    @property
    def bytes(self) -> int:
        """The size of its files."""
        return sum(member.bytes for member in self.files)

    def find_missing(self, sizes: Mapping[str, int]) -> str:
        """Return which of its files is missing or has another size in a folder with files of these sizes; empty: none."""
        for member in self.files:
            if member.file not in sizes:
                return f"{member.file} is missing"
            if sizes[member.file] != member.bytes:
                return f"{member.file} has {sizes[member.file]:,} bytes instead of {member.bytes:,}"
        return ""

    @property
    def databases(self) -> Sequence[str]:
        """The databases in the backup, without duplicates."""
        return list(dict.fromkeys(member.database for member in self.members if member.database))

    @property
    def bases(self) -> Sequence[str]:
        """The backups with the files and the bases of its members, without duplicates."""
        ids = [member.stored_in for member in self.members]
        ids += [member.delta.backup for member in self.members if member.delta]
        return list(dict.fromkeys(filter(None, ids)))

    @property
    def failed(self) -> Sequence[OmittedDatabase]:
        """The selected databases that could not be copied."""
        return [omitted for omitted in self.left_out if omitted.failed]

    @property
    def taken_within(self) -> timedelta:
        """The time between the first and the last copy of its databases."""
        times = [member.taken_at for member in self.members if member.database]
        return max(times) - min(times) if times else timedelta()

    @property
    def affected_databases(self) -> Sequence[str]:
        """Its databases; of a safety backup, also those that did not exist."""
        missing = [omitted.database for omitted in self.left_out] if self.kind == "safety" else []
        return list(dict.fromkeys([*self.databases, *missing]))

    def latest_time(self, database: str = "") -> datetime:
        """Return the latest time of its data, for one database or for all."""
        times = [
            member.taken_at
            for member in self.members
            if member.form not in ("files", "passwords") and database in ("", member.database)
        ]
        return max(times, default=self.created_at)

    @property
    def key_member(self) -> Member | None:
        """The file of the identity that a passphrase protects, or None."""
        return next((member for member in self.members if member.form == "key"), None)

    def password_member(self, database: str) -> Member | None:
        """Return the file with the passwords of the roles of a database, or None."""
        return next(
            (
                member
                for member in self.members
                if member.form == "passwords" and member.facts["database"] == database
            ),
            None,
        )

    def restorable_member(self, database: str) -> Member | None:
        """Return the file from which a database can be restored, or None."""
        return next(
            (
                member
                for member in self.members
                if member.database == database and member.form in ("dump", "kept")
            ),
            None,
        )


#: The versions of the format. A version of dbctl that does not know the second one must not prune the bases of its members.
_Schema: TypeAlias = Literal["dbctl.backup/1", "dbctl.backup/2"]


class _Header(msgspec.Struct, frozen=True):
    schema: str


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: _Schema
    sha256: str  #: of the exact text of ``backup``
    backup: msgspec.Raw


class ManifestInvalidError(ValueError):
    """The file is not a manifest, or was modified; the message is the reason."""


def serialize(manifest: Manifest) -> str:
    """Return the text of the manifest file, with a checksum."""
    content = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    schema: _Schema = "dbctl.backup/2" if manifest.bases else "dbctl.backup/1"
    envelope = _Envelope(schema, hashlib.sha256(content).hexdigest(), msgspec.Raw(content))
    return _encode(envelope).decode()


def _encode(envelope: _Envelope) -> bytes:
    return msgspec.json.encode(envelope) + b"\n"


def parse(text: bytes) -> Manifest:
    """Read the file of a manifest.

    Raises:
        ManifestInvalidError: it is not a manifest, or was modified.
    """
    try:
        schema = msgspec.json.decode(text, type=_Header).schema
        if schema not in get_args(_Schema):
            reason = f"a newer version of dbctl may have written its format {schema[:40]!r}"
            raise ManifestInvalidError(reason)
        envelope = msgspec.json.decode(text, type=_Envelope)
        content = bytes(envelope.backup)
        if hashlib.sha256(content).hexdigest() != envelope.sha256:
            raise ManifestInvalidError("its checksum does not match")
        if _encode(envelope) != text:
            raise ManifestInvalidError("its format was modified")
        manifest = msgspec.json.decode(content, type=Manifest)
    except JSON_ERRORS as error:
        raise ManifestInvalidError(f"it cannot be parsed: {error}") from error
    for member in manifest.members:
        _check_member(member, manifest.kind)
    times = (member.taken_at for member in manifest.members)
    for timestamp in (manifest.created_at, manifest.verified_at, *times):
        if not is_plausible_time(timestamp):
            raise ManifestInvalidError(f"{timestamp} is not a valid time of a backup")
    return manifest if manifest.origin is None else mark_foreign(manifest)


def _check_member(member: Member, kind: Kind) -> None:
    """Raise an error if another command could not use a file of a backup of a kind."""
    if member.file in {"", ".", ".."} or "/" in member.file or "\0" in member.file:
        raise ManifestInvalidError(f"{member.file!r} is not a valid file name")
    if member.delta and not COMPACT_TIME.fullmatch(member.delta.backup):
        raise ManifestInvalidError(f"{member.delta.backup!r} is not the id of a base")
    if member.stored_in and not (
        COMPACT_TIME.fullmatch(member.stored_in) and member.form == "dump" and member.content_sha256
    ):
        raise ManifestInvalidError(f"{member.file} cannot be in {member.stored_in!r}")
    if any(member.rows.get(name) != 0 for name in member.schema_only):
        raise ManifestInvalidError(f"{member.file} has rows of a table whose rows were left out")
    if (fact := _REQUIRED_FACTS.get(member.form)) and fact not in member.facts:
        raise ManifestInvalidError(f"{member.file} has no fact {fact}")
    server_copies = ("physical", "log")
    if member.database and (
        kind in server_copies
        or member.form in server_copies
        or not member.facts.keys().isdisjoint((SEQUENCE, RESTORED))
    ):
        _check_position(member)


def _check_position(member: Member) -> None:
    try:
        texts = [member.facts.get(SINCE, member.taken_at)]
        texts += member.facts[RESTORED].split(" ") if RESTORED in member.facts else []
        times = [msgspec.convert(text, Timestamp) for text in texts]
    except msgspec.ValidationError as error:
        raise ManifestInvalidError(f"a time of the log of {member.file}: {error}") from error
    has_sequence = member.form == "kept" or _SEQUENCE_VALUE.fullmatch(member.facts.get(SEQUENCE, ""))
    if not (has_sequence and all(map(is_plausible_time, times))):
        raise ManifestInvalidError(f"{member.file} has no valid position in the log of its server")


def mark_foreign(manifest: Manifest) -> Manifest:
    """Return a manifest whose dumps are loaded by a scratch role."""
    members = [structs.replace(member, foreign=True) for member in manifest.members]
    return structs.replace(manifest, members=members)


def omit_encryption(manifest: Manifest) -> Manifest:
    """Return a manifest without what ``backup rekey`` changes: the names, sizes and checksums of its encrypted files, and their keys."""
    members = [
        structs.replace(member, file="", bytes=0, sha256="") if member.inner_sha256 else member
        for member in manifest.members
        if member.form != "key"
    ]
    return structs.replace(manifest, members=members, recipients=[])


def is_plausible_time(timestamp: datetime) -> bool:
    """Whether a time can be converted to any time zone and used in calculations."""
    return 1970 <= timestamp.year < 9999  # noqa: PLR2004


#: A second backup in the same second gets the id of the next second.
ONE_SECOND = timedelta(seconds=1)

#: The parts of a backup id.
COMPACT_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)_(\d\d)(\d\d)(\d\d)")


def next_free_id(timestamp: datetime, existing_ids: Collection[str]) -> str:
    """Return the id for a backup of that time, or for the next second without a backup."""
    while (name := timestamp.astimezone(UTC).strftime("%Y%m%d_%H%M%S")) in existing_ids:
        timestamp += ONE_SECOND
    return name


def member_file_name(app: App, database: str, time: str, *, ending: str = "") -> str:
    """Return the name of the file of a database in a backup, as documented by the app.

    ``ending`` replaces the part after the time for other types of files. A compression suffix is removed: it is added
    when the file is compressed.
    """
    name = app.profile.file_name(database)
    if ending:
        name = name[: name.index("{time}") + len("{time}")] + ending
    else:
        name = next(
            (name.removesuffix(suffix) for suffix in SUFFIXES.values() if suffix and name.endswith(suffix)),
            name,
        )
    if app.profile.backup.time == "iso":
        time = COMPACT_TIME.sub(r"\1-\2-\3T\4-\5-\6-000Z", time)
    return name.replace("{time}", time)

"""What a backup says of itself: the last file of its folder, and the only one that makes it a backup."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import msgspec

from dbctl.engines.contract import Dump
from dbctl.files import ENDINGS
from dbctl.model import Compression, Value
from dbctl.services.app import App

#: Why a backup was made: because somebody asked for one, or for some tables alone (``partial``), or before a restore
#: replaced what there was (``safety``), or a migration was about to destroy some of it (``migration``).
Kind = Literal["backup", "partial", "safety", "migration"]
#: ``dump``: one moment of the database. ``raw``: its files as they lay, for it could not be read. ``kept``: nothing but a
#: script that brings it back; the database itself stays on its server under another name. ``files``: what belongs to the
#: app beside its databases. ``key``: the identity that opens the other files, protected by a passphrase.
Form = Literal["dump", "raw", "kept", "files", "key"]
#: How a file is encrypted.
Encryption = Literal["none", "age"]
#: A time that can be compared with any other.
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
#: Not so many that one more could not be written.
Number = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]


class Member(Value, frozen=True, kw_only=True):
    """One file of a backup."""

    database: str  #: empty for the app's other files, and for the key
    file: str
    bytes: Number  #: as it lies there, packed and encrypted or not
    sha256: str
    encryption: Encryption = "none"
    inner_bytes: Number = 0  #: of one that is encrypted: what was, as ``age --decrypt`` brings it back
    inner_sha256: str = ""  #: of that
    compress: Compression = "none"  #: how it was packed once its engine had made it
    plain_bytes: Number = 0  #: of one that was packed: what it unpacks to
    form: Form = "dump"
    only: Sequence[str] = ()  #: the tables it holds, where it does not hold all
    engine: str
    taken_at: Moment  #: the moment that it holds
    rows: Mapping[str, Number]  #: by table
    schema: str  #: fingerprint of the schema; empty where it is not known
    digests: Mapping[str, str] = {}  #: of what small tables hold: ``contents.digests``
    facts: Mapping[str, str]  #: what the file alone does not tell: ``Dumped.facts``, or ``Kept.facts``
    foreign: bool = False  #: whether it came from outside the repository: it is loaded by a scratch role

    @property
    def size(self) -> int:
        """How many bytes its engine reads of it."""
        if self.compress != "none":
            return self.plain_bytes
        return self.bytes if self.encryption == "none" else self.inner_bytes

    @property
    def dump(self) -> Dump:
        """What an engine has to know of it."""
        form: Literal["dump", "kept"] = "kept" if self.form == "kept" else "dump"
        return Dump(
            form=form,
            facts=self.facts,
            tables=self.rows,
            schema=self.schema,
            digests=self.digests,
            part=bool(self.only),
            foreign=self.foreign,
        )


class LeftOut(Value, frozen=True, kw_only=True):
    """A database that the backup does not hold."""

    database: str
    reason: str
    failed: bool = False  #: it should be in the backup, and could not be copied


class Origin(Value, frozen=True, kw_only=True):
    """Where a backup came from that dbctl did not make itself."""

    path: str
    sha256: str  #: of what the file held, unpacked; of a folder, of its manifest
    time: str  #: where its time was taken from, in words


class Manifest(Value, frozen=True, kw_only=True):
    """One backup."""

    id: str  #: YYYYMMDD_HHMMSS, UTC, as its folder is called
    number: Number  #: grows from backup to backup, with the time in seconds, also when the clock is set back
    kind: Kind
    app: str
    profile: str
    created_at: Moment
    verified_at: Moment  #: when its files were last opened and found sound, as far as this file knows
    host: str
    dbctl: str
    restored: str = ""  #: of a safety backup: the backup that was restored after it
    origin: Origin | None = None  #: of one that was adopted
    recipients: Sequence[str] = ()  #: public keys that its files are encrypted for
    members: Sequence[Member]
    left_out: Sequence[LeftOut]

    @property
    def databases(self) -> Sequence[str]:
        """The databases it holds, each once."""
        return list(dict.fromkeys(one.database for one in self.members if one.database))

    @property
    def failed(self) -> Sequence[LeftOut]:
        """The databases that it should hold and does not, since they could not be copied."""
        return [left for left in self.left_out if left.failed]

    @property
    def taken_within(self) -> timedelta:
        """How far apart the moments lie that it holds of its databases."""
        moments = [one.taken_at for one in self.members if one.database]
        return max(moments) - min(moments) if moments else timedelta()

    @property
    def concerns(self) -> Sequence[str]:
        """The databases that it is about: what it holds, and of a safety backup also what was not there to be held."""
        missing = [one.database for one in self.left_out] if self.kind == "safety" else []
        return list(dict.fromkeys([*self.databases, *missing]))

    def until(self, database: str = "") -> datetime:
        """Return the latest moment that it holds, of one database or of all."""
        held = [
            one.taken_at for one in self.members if one.form != "files" and database in ("", one.database)
        ]
        return max(held, default=self.created_at)

    @property
    def key(self) -> Member | None:
        """The file of the identity that opens the others, where a passphrase protects it."""
        return next((one for one in self.members if one.form == "key"), None)

    def member(self, database: str) -> Member | None:
        """Return the file of a database that can be restored from."""
        return next((one for one in self.members if one.database == database and one.form != "raw"), None)


class _Sealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: Literal["dbctl.backup/1"]
    sha256: str  #: of the exact text of ``backup``
    backup: msgspec.Raw


class ManifestInvalidError(ValueError):
    """The file is no manifest, or not as it was written; the text says why."""


def written(manifest: Manifest) -> str:
    """Return the file of a manifest, sealed: a changed byte is noticed."""
    told = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    sealed = _Sealed("dbctl.backup/1", hashlib.sha256(told).hexdigest(), msgspec.Raw(told))
    return _file(sealed).decode()


def _file(sealed: _Sealed) -> bytes:
    return msgspec.json.encode(sealed) + b"\n"


def read(text: bytes) -> Manifest:
    """Read the file of a manifest.

    Raises:
        ManifestInvalidError: it is none, or was changed.
    """
    try:
        sealed = msgspec.json.decode(text, type=_Sealed)
        told = bytes(sealed.backup)
        if hashlib.sha256(told).hexdigest() != sealed.sha256:
            raise ManifestInvalidError("its text is not what was written")
        if _file(sealed) != text:
            raise ManifestInvalidError("what stands around its text is not what was written")
        manifest = msgspec.json.decode(told, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestInvalidError(f"it cannot be understood: {error}") from error
    for one in manifest.members:
        if one.file in {"", ".", ".."} or "/" in one.file or "\0" in one.file:
            raise ManifestInvalidError(f"{one.file!r} is no name of a file beside it")
    for at in (manifest.created_at, manifest.verified_at, *(one.taken_at for one in manifest.members)):
        if not is_of_a_clock(at):
            raise ManifestInvalidError(f"{at} is no time at which a backup was made")
    return manifest if manifest.origin is None else as_foreign(manifest)


def as_foreign(manifest: Manifest) -> Manifest:
    """Return a manifest whose dumps are loaded by a scratch role."""
    members = [msgspec.structs.replace(member, foreign=True) for member in manifest.members]
    return msgspec.structs.replace(manifest, members=members)


def is_of_a_clock(at: datetime) -> bool:
    """Whether it is a time that a clock may show, so that it can be told in any zone and counted from."""
    return 1970 <= at.year < 9999  # noqa: PLR2004 - as said


#: A second backup of one second is called after the next.
SECOND = timedelta(seconds=1)

#: The id of a backup, taken apart.
COMPACT = re.compile(r"(\d{4})(\d\d)(\d\d)_(\d\d)(\d\d)(\d\d)")


def free_id(at: datetime, taken: Collection[str]) -> str:
    """Return the id of a backup of that moment, or of the first second behind it that is free."""
    while (name := at.astimezone(UTC).strftime("%Y%m%d_%H%M%S")) in taken:
        at += SECOND
    return name


def file_name(app: App, database: str, time: str, *, ending: str = "") -> str:
    """Return how the file of a database is called in a backup, as its app's own documents call it.

    What is no file of its own kind has an ``ending`` of its own, in place of what stands behind the time. Whether it is
    packed is not the documents' choice: what they call ``.gz`` is so called once it is.
    """
    told = app.profile.file_name(database)
    if ending:
        told = told[: told.index("{time}") + len("{time}")] + ending
    else:
        told = next((told.removesuffix(one) for one in ENDINGS.values() if one and told.endswith(one)), told)
    if app.profile.backup.time == "iso":
        time = COMPACT.sub(r"\1-\2-\3T\4-\5-\6-000Z", time)
    return told.replace("{time}", time)

"""What somebody left, made a backup of dbctl's own: proven, beside the others, and no longer depending on its file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from msgspec import structs

from dbctl.engines.contract import Dumped, Dumps, Proof
from dbctl.errors import (
    AdoptedAlreadyError,
    BackupUnsoundError,
    FileUnfitError,
    RepositoryMissingError,
    UsageError,
)
from dbctl.files import Progress, atomic, silent
from dbctl.model import Compression, Done, Plan, Row, counted
from dbctl.services.app import App
from dbctl.services.backup import verify
from dbctl.services.backup.create import make
from dbctl.services.backup.encryption import Keys, Sealing, is_encrypted
from dbctl.services.backup.foreign import file_sets
from dbctl.services.backup.foreign.detect import Staged, staged
from dbctl.services.backup.manifest import Kind, Manifest, Member, Origin
from dbctl.services.backup.repository import Backup, Repository
from dbctl.services.backup.sources import Advance, Source
from dbctl.services.backup.writer import Laying
from dbctl.stores import LAST, digest

#: What the files of dumps are called behind the time, by their form: of those that are packed already, and of others.
PACKED: Mapping[str, str] = {"custom": ".dump", "plain": ".sql.gz"}
PLAIN: Mapping[str, str] = {"lance": ".tar"}


class BackupAdopted(Backup, frozen=True, kw_only=True):
    """One file or folder that has become a backup."""

    source: str
    time: str  #: where its time was taken from


class BackupsAdopted(Done, frozen=True, kw_only=True):
    """Answer of ``backup adopt``."""

    adopted: Sequence[BackupAdopted]
    told: Sequence[str] = ()

    @property
    def remarks(self) -> Sequence[str]:
        return self.told

    def brief(self) -> Row:
        return {
            "adopted": [
                {
                    "id": one.id,
                    "source": one.source,
                    "created_at": one.created_at,
                    "time": one.time,
                    "databases": one.databases,
                    "bytes": one.bytes,
                    "rows": sum(sum(member.rows.values()) for member in one.members),
                }
                for one in self.adopted
            ]
        }


class Adoption:
    """What ``backup adopt`` is about to do."""

    purpose = "backup adopt"

    def __init__(
        self,
        app: App,
        repository: Repository,
        paths: Sequence[Path],
        keys: Keys,
        *,
        at: datetime | None,
        timeout: float,
        advance: Advance = lambda _bytes: None,
    ) -> None:
        """Take files; each becomes a backup.

        Args:
            app: the app.
            repository: where they go.
            paths: the files.
            keys: what opens encrypted backups.
            at: when it was made; None: as its name tells, or the file.
            timeout: seconds to wait for a lock.
            advance: told how many bytes more are done.

        Raises:
            UsageError: a time was given for several.
        """
        if at is not None and len(paths) != 1:
            raise UsageError(detail="--at: say of one file at a time when it was made")
        self.app, self.protected, self.target = app.name, app.protected, app.name
        self._opened, self._repository, self._timeout = app, repository, timeout
        self._keys, self._sealing = keys, Sealing(app)
        # What belongs together becomes one, whichever of it was named.
        together = {tuple(file_sets.parts(app, one)): one for one in reversed(paths)}
        self._paths, self._at, self._advance = [*reversed(together.values())], at, advance

    def plan(self) -> Plan:
        """Return what would become of each; they are read and proven, and nothing is written.

        Raises:
            As ``staged`` does, and as ``apply`` does.
        """
        steps = []
        for path in self._paths:
            with staged(self._opened, self._repository, path, at=self._at, trial=False) as (found, _):
                self._refuse_twice(path, found.manifest)
                told = found.manifest
                rows = sum(sum(one.rows.values()) for one in told.members)
                origin = f" ({told.origin.time})" if told.origin else ""
                steps.append(
                    f"make a backup of {path}: {found.what}, {counted(rows, 'row')} of {', '.join(told.databases)},"
                    f" of {told.created_at:%Y-%m-%d %H:%M} UTC{origin}"
                )
        title = f"Adopt into {self._repository.store.place}"
        return Plan(title=title, target=self.target, steps=steps, rows={})

    def apply(self, seen: str | None = None) -> BackupsAdopted:
        """Make a backup of each, in their order; one that cannot be ends it, and those before it stay.

        Raises:
            AdoptedAlreadyError: a backup was made of the same content.
            BackupUnsoundError: a folder is not what its manifest says.
            As ``staged`` does.
        """
        del seen  # nothing is destroyed, so nobody was asked
        adopted, told = list[BackupAdopted](), list[str]()
        with self._repository.store.lock(self.purpose, timeout=self._timeout):
            for path in self._paths:
                with staged(
                    self._opened, self._repository, path, at=self._at, trial=True, advance=self._advance
                ) as (found, beside):
                    self._refuse_twice(path, found.manifest)
                    made = self._made(path, found, beside)
                told += found.remarks
                time = made.origin.time if made.origin else ""
                adopted.append(self._repository.told(made, BackupAdopted, source=str(path), time=time))
        return BackupsAdopted(adopted=adopted, told=told)

    def _made(self, path: Path, found: Staged, beside: Repository) -> Manifest:
        manifest = found.manifest
        if manifest.origin is None:
            if is_encrypted(manifest):
                instead = "dbctl backup copy --from REPOSITORY takes encrypted backups as they are."
                raise FileUnfitError(path=path, reason="it is encrypted", instead=instead)
            self._want_sound(manifest, beside)
            sha256 = digest(atomic.blocks(path / LAST)).sha256
            time = f"its manifest, made by dbctl on {manifest.host}"
            manifest = structs.replace(
                manifest, origin=Origin(path=str(path.resolve()), sha256=sha256, time=time)
            )
            sources: list[Source | Copied] = [Copied(manifest, beside)]
        else:
            sources = [
                Adopted(self._opened, one, beside, manifest, self._advance) for one in manifest.members
            ]
        # What a restore made for itself is only a backup like others here.
        kind: Kind = "partial" if manifest.kind == "partial" else "backup"
        return make(
            self._opened,
            self._repository,
            sources,
            self._sealing,
            left_out=manifest.left_out,
            kind=kind,
            at=manifest.created_at,
            origin=manifest.origin,
        )

    def _want_sound(self, manifest: Manifest, beside: Repository) -> None:
        wrong = verify.problems(
            self._opened, beside.store, manifest, deep=True, keys=self._keys, advance=self._advance
        )
        for one in wrong:
            if one.severity == "error":
                reason = one.message.removeprefix(f"backup {manifest.id}").lstrip(", ")
                raise BackupUnsoundError(id=manifest.id, app=self.app, reason=reason)

    def _manifests(self) -> Sequence[Manifest]:
        """Return the manifests of the repository; none where the first backup is about to make it."""
        try:
            return self._repository.manifests()[0]
        except RepositoryMissingError:
            return []

    def _refuse_twice(self, path: Path, manifest: Manifest) -> None:
        sha256 = manifest.origin.sha256 if manifest.origin else digest(atomic.blocks(path / LAST)).sha256
        for one in self._manifests():
            ours = manifest.origin is None and _content(one) == _content(manifest)
            if ours or (one.origin and one.origin.sha256 == sha256):
                raise AdoptedAlreadyError(path=path, id=one.id)


def _content(manifest: Manifest) -> tuple[datetime, list[str]]:
    """Return what no two backups have alike."""
    return manifest.created_at, [one.sha256 for one in manifest.members]


class Copied:
    """The files of a backup that dbctl made elsewhere, as they are."""

    def __init__(self, manifest: Manifest, beside: Repository) -> None:
        self._manifest, self._beside = manifest, beside

    def pin(self) -> bool:
        """Hold nothing: nobody writes them."""
        return False

    def size(self) -> int:
        """Return how many bytes are copied."""
        return sum(one.bytes for one in self._manifest.members)

    def kept_size(self) -> int:
        """Return how many bytes they take in the backup."""
        return self.size()

    def members(self, folder: Laying) -> list[Member]:
        """Put them into a folder.

        Raises:
            BackupUnsoundError: one was changed meanwhile.
        """
        found = []
        for one in self._manifest.members:
            with self._beside.store.opened(self._manifest.id, one.file) as path:
                laid = folder.copy(path, one.file)
            if one.sha256 != (laid.inner_sha256 or laid.sha256):
                raise BackupUnsoundError(
                    id=self._manifest.id, app=self._manifest.app, reason=f"{one.file} was changed meanwhile"
                )
            digests = one.digests if laid.encryption == "none" else {}
            found.append(structs.replace(one, **structs.asdict(laid), digests=digests))
        return found


class Adopted(Source):
    """A database that somebody else copied, as if this were the moment of its copy."""

    def __init__(
        self, app: App, one: Member, beside: Repository, manifest: Manifest, advance: Advance
    ) -> None:
        told = app.configured.backup
        compress: Compression = told.compress if told else "gzip"
        self._dumps = _Already(one, beside, manifest)
        super().__init__(
            app, one.database, advance, form=self._dumps.form, tables=one.only, compress=compress
        )
        self.engine = one.engine

    def _opened(self) -> Dumps:
        return self._dumps


class _Already:
    """A file in the place of the database that it was copied from: what dumps it, copies it."""

    parts = False

    def __init__(self, one: Member, beside: Repository, manifest: Manifest) -> None:
        self._one, self._beside, self._manifest = one, beside, manifest
        self.form = one.facts.get("format", "")
        self.packed = self.form in PACKED
        self.forms: Mapping[str, str] = {self.form: PACKED.get(self.form) or PLAIN.get(self.form, "")}

    def holds_up(self) -> bool:
        """Nobody writes it."""
        return False

    def dump_size(self) -> int:
        """Return how many bytes it has."""
        return self._one.bytes

    def dump(
        self, destination: Path, *, form: str = "", tables: Collection[str] = (), progress: Progress = silent
    ) -> Dumped:
        """Copy it."""
        del form, tables  # there is but one, and all of it
        with self._beside.store.opened(self._manifest.id, self._one.file) as path:
            atomic.copied(path, destination)
        progress(1.0)
        proof = Proof(tables=self._one.rows, schema=self._one.schema, problems=())
        return Dumped(
            taken_at=self._one.taken_at, facts=self._one.facts, proof=proof, sha256=self._one.sha256
        )

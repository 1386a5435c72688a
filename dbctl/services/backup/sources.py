"""The sources of a backup: each database is dumped, stored and verified."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import msgspec
from msgspec import structs

from dbctl import progress
from dbctl.engines import registry
from dbctl.engines.contract.dumps import Dump, DumpOutput, DumpRequest, DumpResult, Dumps, DumpVerification
from dbctl.engines.contract.engine import VerifyOptions
from dbctl.errors.backup import BackupEmptyError, BackupFailedError
from dbctl.errors.connection import (
    CorruptError,
    DatabaseMissingError,
    InterruptedWriteError,
    NotADatabaseError,
    UnreachableError,
)
from dbctl.errors.usage import WrongAppError
from dbctl.extensions import registry as extensions
from dbctl.files.atomic import create_file
from dbctl.files.codecs import SUFFIXES
from dbctl.files.temp import RateLimiter, run_in_parallel
from dbctl.model import Compression, format_count, now
from dbctl.progress import Progress
from dbctl.services.app.app import App
from dbctl.services.backup.databases import EmptiedTables, open_dumps, select_tables
from dbctl.services.backup.increments import Base, Copy, Increments, NewContent, name_delta
from dbctl.services.backup.manifest import SEQUENCE, SINCE, Member, member_file_name
from dbctl.services.backup.member_files import BackupWriter

#: Typical compression ratio. A higher estimate of the space could reject a backup that would fit.
COMPRESSION_RATIO = 3

#: Errors of one database; the backup continues with the other databases of the app.
SINGLE_DATABASE_ERRORS = (
    BackupFailedError,
    CorruptError,
    InterruptedWriteError,
    DatabaseMissingError,
    NotADatabaseError,
    UnreachableError,
    WrongAppError,
)


class MemberSource(ABC):
    """A source of members of a backup: a database, or the app's own files."""

    database = ""  #: empty for the app's own files
    target = ""  #: the database in messages
    is_streamed = False  #: whether it is stored without a local copy
    log_sequence = 0  #: the number of the newest stored part of the log of its server; 0: none is stored
    allow_empty = False  #: whether a database without tables is accepted

    def pin_snapshot(self) -> bool:
        """Open a snapshot if that blocks no writer; return whether it did."""
        return False

    @abstractmethod
    def size(self) -> int:
        """Estimate the number of bytes to copy."""

    def stored_size(self) -> int:
        """Estimate the bytes in the backup."""
        return self.size()

    def temporary_size(self) -> int:
        """Estimate the bytes of an uncompressed copy next to the file in the backup; 0: there is none."""
        return 0

    @abstractmethod
    def write_members(self, folder: BackupWriter) -> list[Member]:
        """Write the members into the folder of a backup."""

    def discard(self, folder: BackupWriter) -> None:  # noqa: B027 - many sources leave no files
        """Delete the files that a failed ``write_members`` left in the folder."""


class Source(MemberSource):
    """One database of a backup."""

    familiar_tables: Collection[str] = ()  #: tables by which ``App.reader`` also recognises the database

    def __init__(
        self,
        app: App,
        database: str,
        *,
        form: str = "",
        tables: Sequence[str] = (),
        compress: Compression = "gzip",
        compresses_files: bool = False,
        rate_limit: RateLimiter | None = None,
        with_passwords: bool = False,
        increments: Increments | None = None,
        schema_only: Sequence[str] = (),
        stream: bool = False,
    ) -> None:
        """Set the options.

        Args:
            app: with the database.
            database: its name.
            form: one of ``Dumps.forms``; empty or of other engines: the default.
            tables: only these; empty: all.
            compress: how to compress a dump.
            compresses_files: whether to compress also a copy of a file, which its engine writes as it is.
            rate_limit: of the copy and of its compression.
            with_passwords: whether to store the passwords of roles.
            increments: stores the difference from a base, for which a dump is written without compression first; None: no base is used.
            schema_only: names and patterns of tables whose rows are left out.
            stream: whether a dump is compressed and stored while it is written, without a local copy.
        """
        self.app, self.database, self.target = app, database, app.target(database)
        self.engine = app.url(database).engine
        self._form, self._tables = form, tables
        self._compress, self._compresses_files, self._rate_limit = compress, compresses_files, rate_limit
        self._size: int | None = None
        self._file_names: Sequence[str] = ()  #: files that may exist in the folder of the backup
        self._with_passwords, self._increments = with_passwords, increments
        self._schema_only, self.is_streamed = schema_only, stream

    @cached_property
    def dumps(self) -> Dumps:
        """The database, opened once: ``App.close`` must not be called between two uses."""
        return open_dumps(
            self.app, self.database, allow_empty=self.allow_empty, familiar_tables=self.familiar_tables
        )

    @cached_property
    def emptied(self) -> EmptiedTables:
        """The tables whose rows are left out; raises as ``select_tables``."""
        if not self._schema_only:  # the database is not opened
            return EmptiedTables()
        return select_tables(self.app, self.database, self.dumps, self._schema_only)

    @property
    def has_roles(self) -> bool:
        """Whether it is on a server whose roles have passwords."""
        return self.dumps.has_roles

    @cached_property
    def _passwords(self) -> Mapping[str, str]:
        """The passwords to store, by role."""
        return self.dumps.read_role_passwords() if self._with_passwords else {}

    def pin_snapshot(self) -> bool:
        return self.dumps.pin_snapshot()

    def size(self) -> int:
        if self._size is None:
            self._size = self.dumps.estimate_dump_size()
        return self._size

    def stored_size(self) -> int:
        size = self.size()
        return size if self._compression == "none" else size // COMPRESSION_RATIO

    def temporary_size(self) -> int:
        return 0 if self.is_streamed or self._copy_compression == "none" else self.size()

    def plan_steps(self) -> Iterator[str]:
        """Yield the files to write.

        Raises:
            PrivilegeMissingError: this user may not read what the dump contains, or requested passwords of roles.
        """
        subject = f"{', '.join(self._tables)} of {self.database}" if self._tables else self.database
        # The size of a compressed dump is known when it is complete.
        approximation = "about " if self.dumps.forms[self._dump_form] else ""
        compressed = "" if self._compression == "none" else "compressed "
        if unchanged := self._find_unchanged()[0]:
            yield f"refer to the copy of {subject} in {unchanged.stored_in}, since which it is unchanged"
        else:
            base = self._increments.find_base(self.database, self.engine) if self._increments else ""
            method = f"as {self._file_name('TIME')}"
            if isinstance(base, Base):
                method = f"as its difference from {base.manifest.id}, or in full if more than half changed"
            elif base:
                method = f"{method}, in full: {base}"
            direct = ", without a local copy" if self.is_streamed else ""
            yield f"copy {subject} ({approximation}{self.size():,} bytes) {compressed}{method}{direct}"
        if tables := self.emptied.tables:
            yield f"leave out the rows of {', '.join(tables)} of {self.database}"
        if self._passwords:
            roles = format_count(len(self._passwords), "role")
            yield f"store the password hashes of {roles} of its server as {self._password_file('TIME')}"
        if self.dumps.has_roles:
            self.dumps.require_rights(self.emptied.tables, self._tables)

    def _find_unchanged(self) -> tuple[Member | None, str]:
        """Return a reference to the copy in an earlier backup, if the files of the database show that it is unchanged, and their identity."""
        if self._increments is None:
            return None, ""
        taken_at, identity = now(), self.dumps.read_identity()
        unchanged = self._increments.find_known(self._describe_copy(), identity)
        return unchanged and structs.replace(unchanged, taken_at=taken_at), identity

    def _describe_copy(self) -> Copy:
        return Copy(
            compress=self._copy_compression,
            database=self.database,
            engine=self.engine,
            target=self.target,
            schema_only=self.emptied.tables,
        )

    @cached_property
    def _dump_form(self) -> str:
        """The requested form, otherwise that of the documented file name, otherwise the default."""
        forms = self.dumps.forms
        if self._form in forms:
            return self._form
        documented_extension = self.app.profile.file_name(self.database).partition("{time}")[2]
        default = next(iter(forms))
        return next((form for form, ending in forms.items() if ending == documented_extension), default)

    def accepts_compression(self, compress: Compression) -> bool:
        """Return whether the dump can be compressed this way: one of text with gzip, or not at all."""
        return compress in ("none", "gzip") or not self._is_text

    @property
    def _is_text(self) -> bool:
        return self.dumps.forms[self._dump_form].endswith(SUFFIXES["gzip"])

    @property
    def _compression(self) -> Compression:
        """The compression of the file in the backup."""
        # Without compression, the database is not opened.
        if self._compress == "none":
            return "none"
        if self._is_text:
            return "gzip"
        return self._compress if self.dumps.is_compressed or self._compresses_files else "none"

    @property
    def _copy_compression(self) -> Compression:
        """The compression of a complete copy."""
        # Without compression, the database is not opened: a safety backup may copy an unreadable one.
        if not self._compresses_files or (
            self.dumps.is_compressed and not (self._increments or self.is_streamed)
        ):
            return "none"
        return self._compression

    def _password_file(self, name: str) -> str:
        return f"passwords_{self.database}_{name}.json"

    def _file_name(self, name: str) -> str:
        ending = self.dumps.forms[self._dump_form]
        compress = self._compression
        if self._is_text:
            ending = ending if compress != "none" else ending.removesuffix(SUFFIXES["gzip"])
            return member_file_name(self.app, self.database, name, ending=ending)
        return member_file_name(self.app, self.database, name, ending=ending) + SUFFIXES[compress]

    def write_members(self, folder: BackupWriter) -> list[Member]:
        """Write the dump into the folder of a backup, and the passwords of roles if they are requested.

        The dump of an unchanged database is in the folder of an earlier backup.

        Raises:
            PrivilegeMissingError: this user may not read the passwords.
            BackupFailedError: the dump is invalid.
            BackupEmptyError: it has no table.
        """
        passwords = self._passwords
        member, identity = self._find_unchanged()
        if member:
            progress.advance(self.size())
        else:
            member = self._write_dump(folder, identity)
        return [member, *([self._write_passwords(folder, passwords)] if passwords else [])]

    def _write_dump(self, folder: BackupWriter, identity: str) -> Member:
        """Write the dump; ``identity``: of the files of the database."""
        db = self.dumps
        compress = self._copy_compression
        size = self.size()
        file = self._file_name(folder.name)
        plain_file = file.removesuffix(SUFFIXES[compress])
        delta_file, password_file = name_delta(plain_file, compress), self._password_file(folder.name)
        self._file_names = list(dict.fromkeys([file, plain_file, delta_file, password_file]))
        if self.is_streamed:
            stored, dump_result = self._stream_dump(folder, file)
            return self._complete(stored, dump_result, dump_result.verification)
        path = folder.path_for(plain_file)
        compression_bytes = 0 if compress == "none" else size // 2
        # Each stage reads the complete database, so each has the full rate. A copy that blocks writers is not limited.
        limit = [(size, self._rate_limit)] if self._rate_limit else []
        copy_limit = [] if db.blocks_writers() else limit
        copy_progress = count_in_bytes((size - compression_bytes, progress.advance), *copy_limit)
        progress.start_stage("copying")
        dump_result = db.dump(self._create_request(path, copy_progress))
        compression_progress = count_in_bytes((compression_bytes, progress.advance), *limit)

        progress.start_stage("verifying" if compress == "none" else "compressing")

        def store() -> Member:
            if self._increments:
                copy = structs.asdict(self._describe_copy())
                content = NewContent(**copy, path=path, file=file, facts=dump_result.metadata)
                return self._increments.store(folder, content, compression_progress)
            if compress != "none":
                return folder.compress(path, file, compress, compression_progress)
            member = folder.store(file, dump_result.sha256)
            if not dump_result.plain_bytes:
                return member
            return structs.replace(member, compress=self._compress, plain_bytes=dump_result.plain_bytes)

        if dump_result.verification is None:
            stored, verification = run_in_parallel(store, lambda: self._verify_dump(path, dump_result))
        else:
            stored, verification = store(), dump_result.verification
        if compress != "none" or stored.delta or stored.stored_in:
            path.unlink()
        self._record_identity(identity, stored)
        return self._complete(stored, dump_result, verification)

    def _create_request(self, path: Path, report: Progress, output: DumpOutput | None = None) -> DumpRequest:
        return DumpRequest(
            path,
            self._dump_form,
            self._tables,
            report,
            "none" if self._increments or output else self._compress,
            records_log=bool(self.log_sequence) or _records_log(self.app, self.database),
            schema_only=self.emptied.tables,
            output=output,
        )

    def _stream_dump(self, folder: BackupWriter, file: str) -> tuple[Member, DumpResult]:
        """Store the dump while its program writes it; return its member after it was read back."""
        size, compress = self.size(), self._copy_compression
        limits = [(size, self._rate_limit)] if self._rate_limit and not self.dumps.blocks_writers() else []
        report = count_in_bytes((size, progress.advance), *limits)
        progress.start_stage("copying")
        with folder.stream(file, compress, self.stored_size(), self.target) as output:
            dump_result = self.dumps.dump(self._create_request(Path(file), report, output))
            progress.start_stage("verifying")
            return folder.complete(file, compress, output), dump_result

    def _complete(
        self, stored: Member, dump_result: DumpResult, verification: DumpVerification | None
    ) -> Member:
        """Return the member of a stored dump with its content; raises if that is not a backup."""
        if verification is None:
            raise RuntimeError("a dump without a file was not verified")
        if verification.problems:
            others = f", and {len(verification.problems) - 1} more" if len(verification.problems) > 1 else ""
            raise BackupFailedError(target=self.target, reason=f"{verification.problems[0]}{others}")
        # An emptied database must not become the latest backup.
        if not (verification.tables or self.allow_empty):
            raise BackupEmptyError(target=self.target)
        facts = {**dump_result.metadata, **self._describe_log(dump_result)}
        if stored.stored_in:
            return structs.replace(stored, taken_at=dump_result.taken_at, facts=facts)
        return structs.replace(
            stored,
            database=self.database,
            only=self._tables,
            schema_only=self.emptied.tables,
            engine=self.engine,
            taken_at=dump_result.taken_at,
            rows=verification.tables,
            schema=verification.schema,
            # The manifest is not encrypted, and the digest of a small table would confirm a guess of its content.
            digests=verification.digests if stored.encryption == "none" else {},
            facts=facts,
        )

    def _describe_log(self, dump_result: DumpResult) -> Mapping[str, str]:
        """Return the facts of a dump from which the stored log of its server is followed."""
        if dump_result.log_since is None or not self.log_sequence or self._tables:
            return {}
        return {SEQUENCE: str(self.log_sequence), SINCE: dump_result.log_since.isoformat()}

    def _record_identity(self, identity: str, stored: Member) -> None:
        """Record that the files of the database have the content of a member, if their identity was the same before and after the copy."""
        if self._increments and identity and self.dumps.read_identity() == identity:
            self._increments.save_identity(self._describe_copy(), identity, stored.content_sha256)

    def _write_passwords(self, folder: BackupWriter, passwords: Mapping[str, str]) -> Member:
        """Store passwords in a file of their own: the manifest is not encrypted, and commands print it."""
        file = self._password_file(folder.name)
        with create_file(folder.path_for(file)) as output:
            output.write(msgspec.json.encode(passwords))
        facts = {"database": self.database, "roles": str(len(passwords))}
        return structs.replace(folder.store(file), form="passwords", engine=self.engine, facts=facts)

    def discard(self, folder: BackupWriter) -> None:
        for name in self._file_names:
            folder.discard(name)

    def _verify_dump(self, plain: Path, dump_result: DumpResult) -> DumpVerification:
        dump = Dump(metadata=dump_result.metadata, tables={}, schema="")
        return registry.load_engine(self.engine).verify_dump(
            plain, dump, self.target, VerifyOptions(quick=True)
        )


def required_space(sources: Sequence[MemberSource], *, encrypted: bool) -> int:
    """Return the peak disk space of the backup in bytes.

    An uncompressed copy takes space until it is compressed; with encryption, it is in another folder.
    """
    peak = stored_total = 0
    for source in sources:
        stored_total += source.stored_size()
        peak = max(peak, stored_total + (0 if encrypted else source.temporary_size()))
    return peak


def _records_log(app: App, database: str) -> bool:
    """Whether backups of a database record its position in the log of its server, for the recovery of moments after it."""
    place = extensions.find_place("records_log")
    return place is not None and extensions.load(place)(app.configured, database)


def count_in_bytes(*counters: tuple[int, Callable[[int], None]]) -> Progress:
    """Return a function that takes the completed share.

    It calls each function of ``counters`` with the bytes since the last call, of the total before the function.
    """
    reported = [0] * len(counters)

    def report_share(share: float) -> None:
        for index, (size, advance) in enumerate(counters):
            completed = int(share * size)
            advance(max(0, completed - reported[index]))
            reported[index] = max(reported[index], completed)

    return report_share

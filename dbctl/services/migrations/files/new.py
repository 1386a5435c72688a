"""``migrate new``: create the file of a new migration."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from dbctl.engines import registry
from dbctl.engines.contract.schema import TableChange
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import DatabaseMissingError, FileFailedError
from dbctl.errors.migrations import MigrationsShippedError
from dbctl.errors.usage import ValueInvalidError
from dbctl.files.atomic import write_atomically
from dbctl.model import ChangeResult, Effect, Plan, now
from dbctl.services.app.app import App
from dbctl.services.app.change import Operation
from dbctl.services.migrations.files.loader import (
    MigrationFile,
    build_paths,
    order_key_of,
)
from dbctl.services.migrations.files.parser import find_section_markers
from dbctl.services.migrations.files.rebuild import write_statements
from dbctl.services.migrations.ledger.ledger import MigrationTarget
from dbctl.services.migrations.status import load_state, require_single_target

_HEADER_NOTE = "-- The runner begins and ends the transaction: do not write BEGIN, COMMIT or ROLLBACK."
_REBUILD_NOTE = (
    "-- The runner must set foreign_keys = off before the transaction, as dbctl does: otherwise DROP TABLE also deletes\n"
    "-- the rows that refer to the table.\n"
)
_TIMESTAMP_DIGITS = 14  #: of a version that is a timestamp, as created by dbmate, goose and Prisma
_NUMBER_DIGITS = 3  #: of the first number in an empty folder
_MAX_NAME_LENGTH = 100


class CreatedFile(ChangeResult, frozen=True, kw_only=True):
    """Result of ``migrate new``."""

    path: Path
    version: str
    name: str

    @property
    def effect(self) -> Effect | None:
        return Effect("created", "file", [str(self.path)])


class CreateMigration(Operation):
    """Create a migration file: the next number or the current time, a safe name, a header, and the change of a table."""

    def __init__(
        self, app: App, targets: Sequence[MigrationTarget], purpose: str, change: TableChange | None = None
    ) -> None:
        """Find the next number and a safe name, and write the statements of the change.

        Raises:
            As ``write_statements``.
            UsageError: several databases have migrations.
            MigrationsShippedError: the folder is the one shipped with dbctl.
            ValueInvalidError: the name is too long, or has no letter or digit.
        """
        target = require_single_target(targets)
        super().__init__(app, target.name)
        folder = target.folder
        self._purpose = "".join(char for char in " ".join(purpose.split()) if char.isprintable())
        if not folder.is_custom:
            raise MigrationsShippedError(target=self.target)
        names = list(folder.files)
        newest = next(reversed([*folder.files.values()]), None)
        if folder.format == "prisma" or (newest and len(newest.version) == _TIMESTAMP_DIGITS):
            self._version = f"{now():%Y%m%d%H%M%S}"
            self._name = f"{self._version}_{_create_safe_name(purpose, names)}"
        else:
            self._version = _find_next_number(list(folder.files.values()), _iterate_used_numbers(app, target))
            self._name = f"{self._version}{_detect_separator(names)}{_create_safe_name(purpose, names)}"
        self._path, self._down_path = build_paths(folder, self._name)
        language = registry.load_engine(target.engine).script_dialect
        self._markers = find_section_markers(newest.decode() if newest else "", folder.format, language)
        self._statements: Sequence[str] = ()
        if change:
            is_goose = "+goose" in self._markers[0]
            self._statements = write_statements(app, target, change, self._version, goose=is_goose)

    def plan(self) -> Plan:
        """Return the files to write, and the statements in them."""
        steps = [f"write {path}" for path in (self._path, self._down_path) if path]
        steps += [" ".join(statement.split()) for statement in self._statements]
        return self._create_plan("Create a migration", steps)

    def apply(self, confirmed: str | None = None) -> CreatedFile:
        """Write the files completely, or none of them.

        Raises:
            FileExistsAlreadyError: a file of that name was created since the plan.
            FileFailedError: the disk is full, or the folder is not writable.
        """
        del confirmed  # the name is fixed, and an existing file is never replaced
        up, down = self._markers
        drops_table = any(statement.startswith("DROP TABLE") for statement in self._statements)
        header = f"-- Purpose: {self._purpose}\n--\n{_HEADER_NOTE}\n{_REBUILD_NOTE if drops_table else ''}"
        script = "".join(f"{statement}\n\n" for statement in self._statements)
        with self._create_folder():
            if self._down_path:
                self._write(self._down_path, f"-- Reverts: {self._purpose}\n--\n{_HEADER_NOTE}\n\n")
            try:
                self._write(self._path, header + (f"{up}\n\n{script}{down}\n\n" if up else f"\n{script}"))
            except BaseException:  # half of a pair is of no use
                if self._down_path:
                    self._down_path.unlink()
                raise
        return CreatedFile(path=self._path, version=self._version, name=self._name)

    def _write(self, path: Path, text: str) -> None:
        with write_atomically(path, mode=0o644) as file:
            file.write(text)

    @contextmanager
    def _create_folder(self) -> Iterator[None]:
        """Create the folder of the migration if it is missing; remove it again on failure."""
        folder = self._path.parent
        is_new = not folder.exists()
        try:
            if is_new:
                folder.mkdir()
            yield
        except OSError as error:
            raise FileFailedError(path=folder, reason=error.strerror or str(error)) from error
        except BaseException:  # also on a signal: the app's runner would fail on an empty folder
            if is_new:
                with suppress(OSError):  # another process has written a file there
                    folder.rmdir()
            raise


def _iterate_used_numbers(app: App, target: MigrationTarget) -> Iterator[int]:
    """Yield the numbers that the ledger or the shipped migrations use.

    Raises:
        DbctlError: the database cannot be read, and the folder is empty.
    """
    try:
        state = load_state(app, target)
    except DbctlError as error:
        if target.folder.files or isinstance(error, DatabaseMissingError):
            return
        raise
    yield from (order_key_of(migration.name)[0] for migration in state.migrations)
    if state.is_unrecorded and not target.folder.files:  # migrate baseline will record the shipped migrations
        for folder in target.shipped_folders.values():
            yield from (file.order_key[0] for file in folder.files.values())


def _find_next_number(files: Sequence[MigrationFile], other_numbers: Iterable[int]) -> str:
    newest = max((*(file.order_key[0] for file in files), *other_numbers), default=0)
    width = max((len(file.version) for file in files), default=_NUMBER_DIGITS)
    return f"{newest + 1:0{width}d}"


def _detect_separator(names: Sequence[str]) -> str:
    """Return the separator between number and name in the newest file."""
    return names[-1].lstrip("0123456789")[0] if names else "_"


def _create_safe_name(purpose: str, names: Sequence[str]) -> str:
    """Return ``purpose`` as ASCII letters and digits, with the separator of most other names."""
    import unicodedata

    ascii_text = unicodedata.normalize("NFKD", purpose).encode("ascii", "ignore").decode().lower()
    parts = re.findall(r"[a-z0-9]+", ascii_text)
    if not parts:
        raise ValueInvalidError(
            name="the name", value=repr(purpose), reason="it has no ASCII letter or digit"
        )
    separators = Counter(char for name in names for char in name.lstrip("0123456789")[1:] if char in "-_")
    joined = ("-" if separators["-"] > separators["_"] else "_").join(parts)
    if len(joined) > _MAX_NAME_LENGTH:
        raise ValueInvalidError(
            name="the name", value=repr(purpose), reason=f"it is longer than {_MAX_NAME_LENGTH} characters"
        )
    return joined

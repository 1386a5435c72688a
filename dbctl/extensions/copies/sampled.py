"""``dbctl copy`` without ``--anonymise``: the copy has the original values, of all rows or of a sample."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

from msgspec import structs

from dbctl import progress
from dbctl.engines.contract.database import Writable
from dbctl.errors.base import Remedy
from dbctl.extensions.copies.contract import Rewriter
from dbctl.extensions.copies.errors import CopyUnreadableError
from dbctl.extensions.copies.private import PrivateDatabases
from dbctl.extensions.copies.pseudonyms import CopyKey, Pseudonyms
from dbctl.extensions.copies.rules import TableRule
from dbctl.extensions.copies.sample import Sample, SampledTable, Sampling
from dbctl.model import Effect, Plan
from dbctl.services.app.change import Operation
from dbctl.services.backup.manifest import Member
from dbctl.services.restore.copy import CopyRestore, CopyResult
from dbctl.services.restore.source import BackupSource
from dbctl.services.search.fulltext import define_index
from dbctl.services.search.indexes.text import OpenTextIndex, build_index
from dbctl.url import Url

#: What a plan states.
ORIGINALS = "the copy contains the original values; replace them by pseudonyms with --anonymise"


class OriginalCopy(CopyResult, frozen=True, kw_only=True):
    """Result of ``copy`` without ``--anonymise``."""

    @property
    def effect(self) -> Effect | None:
        effect = super().effect
        return effect and structs.replace(effect, details=["with the original values", *effect.details])


def state_originals(copied: CopyResult) -> OriginalCopy:
    """Return a result that states which values the copies have."""
    return OriginalCopy(**structs.asdict(copied))


class CopyOriginals(CopyRestore):
    def plan(self, left_out: Mapping[str, int] = {}, *, limit: str = "") -> Plan:
        plan = super().plan(left_out, limit=limit)
        return structs.replace(plan, steps=[*plan.steps, ORIGINALS])

    def apply(self, confirmed: str | None = None) -> OriginalCopy:
        return state_originals(super().apply(confirmed))


class PrivateCopy(Operation):
    """Base of copies of which private databases are changed first; the databases of the app are not opened."""

    def __init__(
        self,
        source: BackupSource,
        to: Mapping[str, Url],
        *,
        replace: bool,
        key: Path | None,
        samples: Sequence[Sample],
    ) -> None:
        """Assign an address to each database, and read the key.

        Raises:
            CopyKeyInvalidError: the file of the key cannot be used.
            And as ``CopyRestore``.
        """
        super().__init__(source.app)
        self._source, self._to, self._replace, self._samples = source, to, replace, samples
        self._restore = CopyRestore(source, to, replace=replace)
        self._stack, self._key = ExitStack(), CopyKey(key)

    def close(self) -> None:
        """Drop the private databases."""
        self._stack.close()

    def size(self) -> int:
        return 2 * self._restore.size()

    @property
    def _members(self) -> Sequence[Member]:
        return self._restore.members

    @cached_property
    def _private(self) -> PrivateDatabases:
        """The private databases.

        Raises:
            CopyUnreadableError: one has tables whose rows another server stores.
            And as ``PrivateDatabases``.
        """
        progress.start_stage("loading")
        private = PrivateDatabases(self._source, self._members, self._stack)
        with private.open_app() as app:
            for name in private.urls:
                dumps = app.reader(name).dumps
                if tables := dumps and dumps.list_remote_tables():
                    raise CopyUnreadableError(
                        target=self._app.target(name),
                        objects=", ".join(tables),
                        reason="their rows are on another server, which the copy would change",
                        hint=Remedy("Copy all rows as they are with: `copy --to NAME=ADDRESS`"),
                    )
        return private

    @cached_property
    def _sampling(self) -> Sampling | None:
        """The rows that are not copied; raises as ``Sampling``."""
        if not self._samples:
            return None
        with self._private.open_app() as app:
            return Sampling(app, list(self._private.urls), self._samples, self._key.secret)

    @property
    def _sampled(self) -> Mapping[str, SampledTable]:
        """What samples leave of tables, by ``database.table``."""
        return self._sampling.tables if self._sampling else {}

    def _count_left_out(self) -> dict[str, int]:
        """Return the rows that samples leave out, by ``database.table``."""
        return {path: table.left_out for path, table in self._sampled.items()}

    def _describe_samples(self) -> Sequence[str]:
        return [f"copy {table.describe()} of {path}" for path, table in self._sampled.items()]

    def _describe_omitted(self) -> Iterator[str]:
        """Yield what the copies lack besides rows."""
        for name in self._private.urls:
            with self._private.open_writer(name) as (_, rewriter):
                yield from (f"{name}: {text}" for text in rewriter.describe_omitted())

    def _complete(self, name: str, writer: Writable, rewriter: Rewriter) -> None:
        """Build indexes of searches again, and remove what is left of earlier rows."""
        for search in self._app.profile.search:
            is_defined = search.database == name and define_index(search, writer) is not None
            if is_defined and OpenTextIndex(search, writer).read_state().state != "missing":
                build_index(search, writer, replace=True)
        rewriter.clean()

    def _dump(self) -> BackupSource:
        """Return the private databases as a backup."""
        progress.start_stage("dumping")
        repository, manifest = self._private.dump(self._private.folder / "changed")
        return BackupSource(repository, manifest, self._source.keys, self._source.roles)

    def _load(self, dump: BackupSource) -> CopyResult:
        """Load the dump into the destinations, after the key is stored."""
        self._key.save()
        try:
            return CopyRestore(dump, self._to, replace=self._replace).apply()
        except BaseException:
            self._key.discard()
            raise


class CopySample(PrivateCopy):
    """Copy some rows, with their original values; nothing of the other rows reaches the destination."""

    def plan(self) -> Plan:
        """Return what is left of each table; only the destination is not touched."""
        restore = self._restore.plan(self._count_left_out())
        return structs.replace(
            restore,
            title=f"Copy of a sample of {self._source.label}",
            steps=[*self._describe_samples(), *self._describe_omitted(), *restore.steps, ORIGINALS],
        )

    def apply(self, confirmed: str | None = None) -> OriginalCopy:
        """Create the copies; raises as ``plan`` and ``CopyRestore.apply``."""
        start = time.monotonic()
        self._require_confirmed(confirmed)
        remarks = list[str]()
        progress.start_stage("rewriting")
        for name in self._private.urls:
            with self._private.open_writer(name) as (writer, rewriter):
                unchanged: Mapping[str, TableRule] = {
                    table: {} for table, live in writer.tables().items() if not live.is_view
                }
                with rewriter.without_triggers():
                    if self._sampling:
                        self._sampling.apply(name, writer)
                    remarks += [
                        f"{name}: {remark}"
                        for remark in rewriter.rewrite(unchanged, Pseudonyms(self._key.secret))
                    ]
                self._complete(name, writer, rewriter)
        copied = self._load(self._dump())
        return structs.replace(
            state_originals(copied),
            backup=self._source.manifest.id,
            duration=round(time.monotonic() - start, 3),
            remarks=[*remarks, *copied.remarks],
        )

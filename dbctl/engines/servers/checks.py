"""What servers have in common that tell of their soundness: foreign keys that lost their rows, and no parts of their own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import cast

from dbctl.engines.contract import IndexDifference, Orphans
from dbctl.engines.sql import SqlReader, ident
from dbctl.errors import NotSupportedError


class ServedChecks(SqlReader):
    """Capability.CHECK, but for the damage that each server knows by its own words."""

    @abstractmethod
    def _named_by(self, key: Sequence[str]) -> str:
        """Return SQL for the text that tells a row of ``c`` from every other one."""

    def _asked(self, table: str) -> list[str]:
        if table:
            return [self._checked(table).name]
        return [name for name, one in self.tables().items() if not one.view]

    def _lost(
        self, child: str, schema: str, parent: str, columns: Sequence[str], to: Sequence[str]
    ) -> Iterator[Orphans]:
        """Yield the rows of ``child`` that point to nothing, if there are any."""
        link = " and ".join(
            f"p.{ident(there)} = c.{ident(here)}" for here, there in zip(columns, to, strict=True)
        )
        known = " and ".join(f"c.{ident(column)} is not null" for column in columns)
        key = self._key(child)
        sql = (
            f"select count(*), {f'min({self._named_by(key)})' if key else 'null'} from {ident(child)} c where {known}"  # noqa: S608 - names are quoted
            f" and not exists (select 1 from {ident(schema)}.{ident(parent)} p where {link})"
        )
        ((number, first),) = cast("list[tuple[int, str | None]]", self._fetch(sql, {}))
        if number:
            example = f"{', '.join(key)} {first}" if key else None
            yield Orphans(table=child, columns=columns, to=parent, number=number, example=example)

    def index_differences(self, index: str, limit: int) -> Sequence[IndexDifference]:
        del index, limit  # the engine reads an index only together with its table
        return ()

    def lost_commits(self) -> int:
        return 0  # the server replays its log whole, or does not start

    def text_indexes(self) -> Sequence[str]:
        return ()

    def text_index_damage(self, name: str) -> str:
        raise NotSupportedError(what=f"checking {name}", by=self.target, instead="It is no text index.")

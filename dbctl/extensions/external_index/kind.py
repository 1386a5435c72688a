"""Which searches have an external index, and what searches and commands use of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dbctl.engines.contract.database import Order, Where
from dbctl.extensions.external_index.lookup import (
    ExternalQuery,
    define_index,
    describe_unused_index,
    list_locations,
)
from dbctl.profiles.model.profile import Profile
from dbctl.profiles.model.search import Search
from dbctl.services.app.app import App
from dbctl.services.search.compiler import QueryCompiler
from dbctl.services.search.indexes.kinds import IndexKind

if TYPE_CHECKING:  # searches only look up rows
    from dbctl.extensions.external_index.index import ExternalIndex


class ExternalIndexKind(IndexKind):
    """The external indexes of searches whose database is read-only for dbctl, and that have no full-text index."""

    def covers(self, search: Search, profile: Profile) -> bool:
        """Whether a search has an external index. Optional tables have none: they are small, so every row is read."""
        read_only = profile.databases[search.database].mode == "read-only"
        return search.text is None and read_only and not search.optional

    def create_index(self, app: App, search: Search) -> ExternalIndex:
        from dbctl.extensions.external_index.index import ExternalIndex

        return ExternalIndex(app, search)

    def prepare_lookup(
        self,
        app: App,
        compiler: QueryCompiler,
        words: Sequence[str],
        where: Sequence[Where],
        order: Sequence[Order],
    ) -> tuple[ExternalQuery | None, str]:
        from dbctl.extensions.external_index.build import ExternalIndexes

        db, search = compiler.db.extension_part(ExternalIndexes), compiler.search
        if db is None:
            return None, ""
        words = [word for word in words if db.can_find_word(word)]
        index = define_index(compiler)
        if not words and (
            list(order) != list(index.order)
            or any(condition not in index.stored_conditions for condition in where)
        ):
            return None, ""  # every row would have to be compared anyway
        state = db.open_external_index(index, list_locations(app, search, db))
        if state.state == "fresh":
            return ExternalQuery(db, index, words), ""
        return None, describe_unused_index(search, state) if words else ""


KIND = ExternalIndexKind()

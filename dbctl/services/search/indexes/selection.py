"""All indexes of an app's searches: full-text indexes, external indexes, and the vector index (``semantic``)."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl import progress
from dbctl.errors.usage import NotSupportedError, UsageError
from dbctl.model import Findings, Page
from dbctl.services.app.app import App
from dbctl.services.search.external_lookup import has_external_index
from dbctl.services.search.indexes.base import IndexAction, IndexChange, IndexStatus, SearchIndex
from dbctl.services.search.indexes.external import ExternalIndex
from dbctl.services.search.indexes.text import TextIndex
from dbctl.services.search.indexes.vector import NAME, VectorColumnIndex


def read_statuses(app: App, name: str = "") -> Page[IndexStatus]:
    """Return the status of the index of one search, or of all."""
    items = [index.read_status() for index in _select_indexes(app, name)]
    return Page(items=items, total=len(items), column_names=IndexStatus.__struct_fields__)


def check(app: App, name: str = "", *, full: bool = False) -> Findings:
    """Compare each index with its definition and its rows.

    Of an external index, a sample of the rows is compared; with ``full``, all its entries are compared with a rebuilt index.
    """
    indexes = _select_indexes(app, name)
    findings = [
        finding for index in progress.list_parts(indexes, "index") for finding in index.check(full=full)
    ]
    return Findings(checked=len(indexes), unit="index", findings=findings)


def create_change(app: App, name: str, action: IndexAction, *, cache: bool = False) -> IndexChange:
    """Return the operation that builds, replaces or drops an index.

    Args:
        app: the app.
        name: the search, or ``semantic``; may be empty if only one search has an index.
        action: what to do.
        cache: whether an external index is created in the cache directory of the user.

    Raises:
        UsageError: several indexes match, or the index cannot be in the cache directory.
        NotSupportedError, FeatureMissingError: no index matches.
    """
    index, *others = _select_indexes(app, name)
    if others:
        names = " or ".join(index.name for index in (index, *others))
        raise UsageError(detail=f"several indexes: name one of {names}")
    if cache and not isinstance(index, ExternalIndex):
        raise UsageError(detail=f"--cache: the index of {index.name} is stored in its database")
    if cache and isinstance(index, ExternalIndex):
        index.use_cache()
    return IndexChange(index, action)


def _select_indexes(app: App, name: str) -> Sequence[SearchIndex]:
    """Return the index of a search, or all.

    Raises:
        NotSupportedError: no index matches.
        FeatureMissingError: the app has no searches, or no semantic search.
    """
    if name == NAME:
        return [VectorColumnIndex(app)]
    section = app.profile.semantic
    vector_indexes: list[SearchIndex] = []
    if not name and section and section.database in app.configured.databases:
        vector_indexes = [VectorColumnIndex(app)] if app.only in ("", section.database) else []
    searches = app.profile.search if vector_indexes else app.require_section(app.profile.search, "search")
    indexes: list[SearchIndex] = [
        ExternalIndex(app, search) if has_external_index(search, app.profile) else TextIndex(app, search)
        for search in searches
        if (search.text or has_external_index(search, app.profile)) and app.only in ("", search.database)
    ]
    selected = [index for index in indexes if name in ("", index.name)]
    if not (selected or vector_indexes):
        raise NotSupportedError(
            feature=f"a search index for {name or 'a search'}",
            subject=app.name,
            hint=f"Searches with one: {', '.join(index.name for index in indexes) or 'none'}.",
        )
    return [*selected, *vector_indexes]

"""All indexes of an app's searches: full-text indexes, and those of extensions."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl import progress
from dbctl.errors.usage import NotSupportedError, UsageError
from dbctl.model import Findings, Page
from dbctl.services.app.app import App
from dbctl.services.search.indexes.base import IndexAction, IndexChange, IndexStatus, SearchIndex
from dbctl.services.search.indexes.kinds import find_kind, list_app_indexes
from dbctl.services.search.indexes.text import TextIndex


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
    """Return the operation that builds, replaces or drops the index of a search, or of an extension, such as ``semantic``.

    ``name`` may be empty if only one search has an index. ``cache`` creates an external index in the cache directory of the user.

    Raises:
        UsageError: several indexes match, or the index cannot be in the cache directory.
        NotSupportedError, FeatureMissingError: no index matches.
    """
    index, *others = _select_indexes(app, name)
    if others:
        names = " or ".join(index.name for index in (index, *others))
        raise UsageError(detail=f"several indexes: name one of {names}")
    if cache:
        index.use_cache()
    return IndexChange(index, action)


def _select_indexes(app: App, name: str) -> Sequence[SearchIndex]:
    """Return the index of a search or of an extension, or all.

    Raises:
        NotSupportedError: no index matches.
        FeatureMissingError: the app has no searches, or lacks the feature of the index.
    """
    added = [*list_app_indexes(app, name)]
    if name and added:
        return added
    searches = app.profile.search if added else app.require_section(app.profile.search, "search")
    indexes: list[SearchIndex] = [
        kind.create_index(app, search) if kind else TextIndex(app, search)
        for search in searches
        for kind in [find_kind(search, app.profile)]
        if (search.text or kind) and app.only in ("", search.database)
    ]
    selected = [index for index in indexes if name in ("", index.name)]
    if not (selected or added):
        raise NotSupportedError(
            feature=f"a search index for {name or 'a search'}",
            subject=app.name,
            hint=f"Searches with one: {', '.join(index.name for index in indexes) or 'none'}.",
        )
    return [*selected, *added]

"""All indexes of an app's searches: full-text indexes, external indexes, and the vector index (``semantic``)."""

from __future__ import annotations

from dbctl.errors import UsageError
from dbctl.model import Findings, Page
from dbctl.services.app import App
from dbctl.services.search import index
from dbctl.services.search.external_index import ExternalIndexChange, IndexAction, has_external_index
from dbctl.services.search.index import IndexChange, IndexStatus
from dbctl.services.search.semantic import NAME, VectorIndexChange
from dbctl.services.search.semantic import index as search_vectors


def read_statuses(app: App, name: str = "") -> Page[IndexStatus]:
    """Return the status of the index of one search, or of all."""
    items: list[IndexStatus] = []
    if _includes_text_index(app, name):
        items += index.read_statuses(app, name).items
    if _includes_vector_index(app, name):
        items.append(search_vectors.read_status(app))
    return Page(items=items, total=len(items), column_names=IndexStatus.__struct_fields__)


def check(app: App, name: str = "", *, full: bool = False) -> Findings:
    """Compare each index with its rows; for ``full``, see ``index.check``."""
    result = (
        index.check(app, name, full=full)
        if _includes_text_index(app, name)
        else Findings(checked=0, findings=[])
    )
    if not _includes_vector_index(app, name):
        return result
    return Findings(checked=result.checked + 1, findings=[*result.findings, *search_vectors.check(app)])


def create_change(
    app: App, name: str, action: IndexAction, *, cache: bool = False
) -> IndexChange | ExternalIndexChange | VectorIndexChange:
    """Return the operation on an index; for ``cache``, see ``index.create_change``.

    Raises:
        UsageError: several indexes match.
        NotSupportedError, FeatureMissingError: no index matches.
    """
    words, vectors = _includes_text_index(app, name), _includes_vector_index(app, name)
    if words and vectors:
        raise UsageError(detail=f"several indexes: name {NAME} or a search")
    if not vectors:
        return index.create_change(app, name, action, cache=cache)
    if cache:
        raise UsageError(detail="--cache: the vector index is stored in its database")
    return VectorIndexChange(app, action)


def _includes_vector_index(app: App, name: str) -> bool:
    section = app.profile.semantic
    if name:
        return name == NAME
    return (
        section is not None
        and section.database in app.configured.databases
        and app.only in ("", section.database)
    )


def _includes_text_index(app: App, name: str) -> bool:
    """Whether the full-text indexes are selected; also if there is no index at all, for their error message."""
    if name == NAME:
        return False
    if name or not _includes_vector_index(app, name):
        return True
    return any(search.text or has_external_index(search, app.profile) for search in app.profile.search)

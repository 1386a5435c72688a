"""Every index behind a search of an app: those of words, and that of vectors, which commands call semantic."""

from __future__ import annotations

from dbctl.errors import UsageError
from dbctl.model import Findings, Page
from dbctl.services.app import App
from dbctl.services.search import index
from dbctl.services.search.external_index import AsideChange, Purpose, is_aside
from dbctl.services.search.index import IndexChange, Standing
from dbctl.services.search.semantic import NAME, VectorIndexChange
from dbctl.services.search.semantic import index as search_vectors


def standings(app: App, name: str = "") -> Page[Standing]:
    """Return how the index of each search stands, or of the one that is named."""
    items: list[Standing] = []
    if _is_of_words(app, name):
        items += index.standings(app, name).items
    if _is_of_vectors(app, name):
        items.append(search_vectors.standing(app))
    return Page(items=items, total=len(items), names=Standing.__struct_fields__)


def check(app: App, name: str = "", *, whole: bool = False) -> Findings:
    """Compare each index with what it should find; ``whole`` is that of ``search_index.check``."""
    found = (
        index.check(app, name, whole=whole) if _is_of_words(app, name) else Findings(checked=0, findings=[])
    )
    if not _is_of_vectors(app, name):
        return found
    return Findings(checked=found.checked + 1, findings=[*found.findings, *search_vectors.findings(app)])


def change_of(
    app: App, name: str, purpose: Purpose, *, cache: bool = False
) -> IndexChange | AsideChange | VectorIndexChange:
    """Return what makes, replaces or drops the index that is meant; ``cache`` is that of ``search_index.change_of``.

    Raises:
        UsageError: several could be.
        NotSupportedError, AbilityMissingError: there is none.
    """
    words, vectors = _is_of_words(app, name), _is_of_vectors(app, name)
    if words and vectors:
        raise UsageError(detail=f"say which index: {NAME}, or what a search is called")
    if not vectors:
        return index.change_of(app, name, purpose, cache=cache)
    if cache:
        raise UsageError(detail="--cache: the index of vectors stands in its database")
    return VectorIndexChange(app, purpose)


def _is_of_vectors(app: App, name: str) -> bool:
    told = app.profile.semantic
    if name:
        return name == NAME
    return told is not None and told.database in app.configured.databases and app.only in ("", told.database)


def _is_of_words(app: App, name: str) -> bool:
    """Whether an index of words may be meant; where nothing else is, what is raised says why there is none."""
    if name == NAME:
        return False
    if name or not _is_of_vectors(app, name):
        return True
    return any(one.text or is_aside(one, app.profile) for one in app.profile.search)

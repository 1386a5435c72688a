"""One look at each configured database of an app, so that one which cannot be looked at does not hide the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from msgspec import structs

from dbctl.errors import DatabaseUnsetError, DbctlError, Exit, NotSupportedError
from dbctl.model import Page, Value, Window
from dbctl.services.app.app import App
from dbctl.services.app.pagination import page_of

T = TypeVar("T", bound=Value)


class Figures(Value, Generic[T], frozen=True, kw_only=True):
    """Figures of the databases that could be looked at, and what kept the others from it."""

    page: Page[T]
    failed: Sequence[DbctlError]
    remarks: Sequence[str] = ()  #: what has to be known to read them

    @property
    def status(self) -> Exit:
        """How the command ends."""
        return Exit.PARTIAL if self.failed else Exit.OK


def configured(app: App) -> Iterator[str]:
    """Yield the databases that are meant: the one of ``--db``, else all that the configuration names.

    Raises:
        DatabaseUnsetError: it does not name one that the app has to have.
    """
    for name, told in app.profile.databases.items():
        if app.only not in ("", name):
            continue
        try:
            app.url(name)
        except DatabaseUnsetError:
            if told.optional and not app.only:
                continue
            raise
        yield name


def figures(
    app: App, kind: type[T], window: Window, look: Callable[[str], list[T]], *, wide: bool = False
) -> Figures[T]:
    """Look at each configured database; where some engine can tell, those that cannot are passed over.

    Args:
        app: the app.
        kind: what is told.
        window: which part.
        look: tells it of one database.
        wide: whether a table has no room for the target where it is the same in every row.

    Raises:
        DbctlError: what kept the first from being looked at, where all of them fail.
    """
    items, failed, told = list[T](), list[DbctlError](), False
    for name in configured(app):
        try:
            items += look(name)
            told = True
        except DbctlError as error:
            failed.append(error)
    if failed and not told:
        raise failed[0]
    page = page_of(items, kind, window)
    alike = [field for field in kind.__struct_fields__ if all(getattr(one, field) is None for one in items)]
    if wide and len({getattr(one, "target", None) for one in items}) == 1:
        alike = ["target", *alike]
    return Figures(
        page=structs.replace(page, alike=alike if items else ()),
        failed=[error for error in failed if not isinstance(error, NotSupportedError)],
    )

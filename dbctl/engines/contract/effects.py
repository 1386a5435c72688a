"""The effect of one SQL statement on stored rows."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl.model import Value


class Effect(Value, frozen=True, kw_only=True):
    """What one statement may delete."""

    may_take_rows: bool  #: whether rows may be gone after it
    destroys: bool = False  #: it deletes rows, or drops a table, a column or what holds some
    drops: Sequence[str] = ()  #: the tables that it drops, without their schema
    empties: Sequence[str] = ()  #: the tables that it deletes rows of
    session: bool = False  #: it only sets something that ends with the session

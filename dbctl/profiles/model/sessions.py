"""What a profile can say about what users do for a while: rows that are open until they end."""

# Without postponed annotations: msgspec reads them in every run, and text would have to be compiled each time.
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from dbctl.profiles.model.base import Section

#: A column, or several of which the first that exists counts; ``?`` says that it may be missing.
Name = str | list[str]
#: What a column holds: one value, or one of several.
Held = str | int | float | bool | Annotated[list[str | int], msgspec.Meta(min_length=1)]


class SessionsShape(Section, frozen=True, kw_only=True):
    """What a row holds while it lasts, where deployments differ; the first whose columns exist counts."""

    open: Annotated[Mapping[str, Held], msgspec.Meta(min_length=1)]


class Sessions(Section, frozen=True, kw_only=True):
    """One kind of them: plays, visits, connections, sign-ins."""

    name: str = "sessions"
    table: str  #: in the database of the users; one that ends in ``?`` may be missing
    key: str = "id"
    user: str  #: the column that names the user
    started_at: str
    seen_at: Name | None = None  #: when it was last heard of; else ``started_at`` says how old it is
    ended_at: Name | None = None  #: NULL while it lasts, unless ``open`` says otherwise
    expires_at: Name | None = None  #: it has ended by then, whatever else it holds
    duration: Name | None = None  #: seconds
    open: Mapping[str, Held] = {}  #: what a row holds while it lasts
    shape: Sequence[SessionsShape] = ()  #: in place of ``open``
    only: Mapping[str, Held] = {}  #: what a row holds that counts as one at all
    fields: Mapping[str, Name] = {}  #: further ones, under the words by which they are shown
    abandoned: str = ""  #: the rule of ``cleanup`` that closes those that nobody ended


def mistakes(told: Sessions) -> str:
    """Return what makes no sense in a section, or nothing."""
    if not (told.ended_at or told.open or told.shape):
        return "nothing says when one has ended: ended_at, open or a shape"
    return ""

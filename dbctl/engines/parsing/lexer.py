"""What pieces of SQL have in common, whichever server reads it: who takes a text apart says what kind each one is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["text", "name", "comment", "space", "word", "parameter", "end", "sign"]


class Token(NamedTuple):
    """One piece of a statement; all of them one after the other are the statement."""

    kind: Kind
    text: str
    start: int


class Piece(NamedTuple):
    """Plain text, or a parameter with what stands beside it."""

    text: str
    name: str = ""  #: of a parameter; empty: ``text`` stays as it is
    beside: str = ""  #: "in" or "not in" before it, which it replaces, or "is" behind it


def pieces(read: Sequence[Token]) -> Sequence[Piece]:
    """Bring a statement with ``:name`` parameters into the pieces that a translation replaces."""
    words = [at for at, token in enumerate(read) if token.kind not in ("space", "comment")]
    found: dict[int, Piece] = {}
    left_out: set[int] = set()
    for place, at in enumerate(words):
        if read[at].kind != "parameter":
            continue
        before = [read[one].text.lower() for one in words[max(0, place - 2) : place]]
        beside = "" if before[-1:] != ["in"] else "not in" if before == ["not", "in"] else "in"
        if beside:
            left_out.update(range(words[place - len(beside.split())], at))
        elif [read[one].text.lower() for one in words[place + 1 : place + 2]] == ["is"]:
            beside = "is"
        found[at] = Piece("", read[at].text[1:], beside)
    return tuple(found.get(at, Piece(token.text)) for at, token in enumerate(read) if at not in left_out)

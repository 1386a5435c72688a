"""The keys of ``[apps.NAME.embedder]`` that each kind of embedder accepts and requires."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from dbctl.config.environment import VARIABLE_PATTERN
from dbctl.config.model import Embedder, EmbedderKind
from dbctl.units import is_duration

#: The default URL of a service, and the variable of its key, which is not sent to other URLs by default.
SERVICES = {
    "gemini": ("https://generativelanguage.googleapis.com/v1beta", "GEMINI_API_KEY"),
    "openai": ("https://api.openai.com/v1", "OPENAI_API_KEY"),
}

_REMOTE = ("url", "key_env", "key_file", "dimensions")

#: The required and the optional keys of each kind of embedder.
_EMBEDDERS: Mapping[EmbedderKind, tuple[Sequence[str], Sequence[str]]] = {
    "gemini": (["model"], [*_REMOTE, "task"]),
    "openai": (["model"], _REMOTE),
    "command": (["command"], ["model"]),
    "local": (["model", "package"], []),
}


def check_embedder(embedder: Embedder) -> Iterator[tuple[str, str]]:
    """Yield the invalid keys of an embedder, with the reason."""
    required, optional = _EMBEDDERS[embedder.kind]
    for name in ("model", *_REMOTE, "task", "command", "package"):
        if getattr(embedder, name) and name not in (*required, *optional):
            yield name, f"an embedder of kind {embedder.kind} does not accept it"
        if name in required and not getattr(embedder, name):
            yield name, f"an embedder of kind {embedder.kind} requires it"
    if not is_duration(embedder.timeout) or not embedder.timeout[:-1].strip("0"):
        yield "timeout", f"{embedder.timeout!r} is not a duration; write 30s or 2m"
    if embedder.command and not embedder.command[0]:
        yield "command", "the program is missing"
    if embedder.key_env and embedder.key_file:
        yield "key_file", "use either key_env or key_file"
    if embedder.key_env and not re.fullmatch(VARIABLE_PATTERN, f"${{{embedder.key_env}}}"):
        yield "key_env", "it must be the name of a variable, not the key itself"

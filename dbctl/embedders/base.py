"""The protocol of embedders, validation of vectors, and the configured embedder of an app."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dbctl.config.model import App
from dbctl.errors.search import EmbedderFailedError, EmbedderNotConfiguredError

#: The maximum dimensions of a model, and the largest 32-bit floating-point number.
MAX_DIMENSIONS = 65_536
MAX_FLOAT32 = 3.4028234663852886e38


class Embedder(Protocol):
    """Service that computes the vector of a text."""

    place: str  #: for messages: the address or command, without key

    def embed(self, text: str) -> Sequence[float]:
        """Return the vector of a text, with finite components.

        Raises:
            EmbedderUnreachableError: it cannot be reached, or did not respond in time.
            EmbedderBusyError: it accepts no further requests at the moment.
            EmbedderRefusedError: it rejected the key.
            EmbedderFailedError: it returned no vector.
            EmbedderPackageMissingError: it is not installed.
            EmbedderKeyMissingError: the configured key is missing.
        """


def find_problem(components: object) -> str:
    """Return why a JSON value is not a vector, or an empty text."""
    if not isinstance(components, list):
        return f"it is {_json_type(components)}, not a list of numbers"
    if not components:
        return "it is empty"
    if len(components) > MAX_DIMENSIONS:
        return f"it has {len(components):,} numbers, more than any model returns"
    for number, component in enumerate(components, 1):
        if isinstance(component, bool) or not isinstance(component, (int, float)):
            return f"its number {number} is {_json_type(component)}"
        if not (-MAX_FLOAT32 <= component <= MAX_FLOAT32):  # also true for NaN
            return f"its number {number} is {'not a number' if component != component else 'infinite, or too large'}"  # noqa: PLR0124 - only NaN differs from itself
    return ""


def _json_type(value: object) -> str:
    kinds = {type(None): "null", bool: "true or false", str: "text", list: "a list", dict: "an object"}
    return kinds.get(type(value), "a number")


def require_vector(components: object, place: str, hint: str) -> list[float]:
    """Return the output of an embedder as a vector.

    Raises:
        EmbedderFailedError: it is not a vector.
    """
    if reason := find_problem(components):
        raise EmbedderFailedError(place=place, reason=reason, hint=hint)
    return [float(component) for component in components] if isinstance(components, list) else []


def create_embedder(app: App, *, vector_model: str = "") -> Embedder:
    """Return the embedder of an app; no request is sent and no key is read.

    Args:
        app: the app as configured.
        vector_model: the model of the searched vectors, for the error message.

    Raises:
        EmbedderNotConfiguredError: no embedder is configured.
    """
    section = app.embedder
    if section is None:
        raise EmbedderNotConfiguredError(
            app=app.name,
            model=f", and the model that computed its vectors ({vector_model})" if vector_model else "",
        )
    if section.kind == "command":
        from dbctl.embedders.command import Command

        return Command(section)
    if section.kind == "local":
        from dbctl.embedders.local import Local

        return Local(app, section)
    from dbctl.embedders.services import Service

    return Service(app, section)

"""Create the configured embedder of an app."""

from __future__ import annotations

from dbctl.config import App
from dbctl.embedders.base import Embedder
from dbctl.errors import EmbedderNotConfiguredError


def create_embedder(app: App, *, vector_model: str = "") -> Embedder:
    """Return the embedder of an app; no request is sent and no key is read.

    Args:
        app: the app as configured.
        vector_model: the model of the searched vectors, for the error message.

    Raises:
        EmbedderNotConfiguredError: no embedder is configured.
    """
    embedder = app.embedder
    if embedder is None:
        raise EmbedderNotConfiguredError(
            app=app.name,
            model=f", and the model that computed its vectors ({vector_model})" if vector_model else "",
        )
    if embedder.kind == "command":
        from dbctl.embedders.command import Command

        return Command(embedder)
    if embedder.kind == "local":
        from dbctl.embedders.local import Local

        return Local(app, embedder)
    from dbctl.embedders.services import Service

    return Service(app, embedder)

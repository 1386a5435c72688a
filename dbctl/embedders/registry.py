"""Which embedder an app has, by the kind that its configuration names."""

from __future__ import annotations

from dbctl.config import App
from dbctl.embedders.base import Embedder
from dbctl.errors import EmbedderUnsetError


def of(app: App, *, model: str = "") -> Embedder:
    """Return the embedder of an app; nothing is asked, and no key is read yet.

    Args:
        app: the app as configured.
        model: which made the vectors that are searched, for the message where nothing is configured.

    Raises:
        EmbedderUnsetError: the configuration names none.
    """
    embedder = app.embedder
    if embedder is None:
        raise EmbedderUnsetError(
            app=app.name, model=f", and the model that made its vectors ({model})" if model else ""
        )
    if embedder.kind == "command":
        from dbctl.embedders.command import Command

        return Command(embedder)
    if embedder.kind == "local":
        from dbctl.embedders.local import Local

        return Local(app, embedder)
    from dbctl.embedders.services import Service

    return Service(app, embedder)

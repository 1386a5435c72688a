"""Local models of Python packages, which are imported on first use."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any

from dbctl.config.model import App, Embedder
from dbctl.embedders import base
from dbctl.errors.search import EmbedderFailedError, EmbedderPackageMissingError

CHECK_HINT = (
    "Check model under [apps.NAME.embedder]: its name, and that it is installed or can be downloaded."
)


def _fastembed(model: str) -> Callable[[str], Any]:
    from fastembed import TextEmbedding

    loaded = TextEmbedding(model_name=model)
    return lambda text: next(iter(loaded.query_embed(text)))


def _sentence_transformers(model: str) -> Callable[[str], Any]:
    from sentence_transformers import SentenceTransformer

    loaded = SentenceTransformer(model)
    return lambda text: loaded.encode(text, show_progress_bar=False)


PACKAGES: Mapping[str, Callable[[str], Callable[[str], Any]]] = {
    "fastembed": _fastembed,
    "sentence-transformers": _sentence_transformers,
}


class Local:
    """A model of a Python package."""

    def __init__(self, app: App, embedder: Embedder) -> None:
        self._app, self._embedder = app.name, embedder
        self.place = f"{embedder.package} ({embedder.model})"

    def embed(self, text: str) -> Sequence[float]:
        try:
            # A package may print messages, but programs read the output of dbctl.
            with redirect_stdout(sys.stderr):
                result = PACKAGES[self._embedder.package](self._embedder.model)(text)
        except ImportError as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise EmbedderPackageMissingError(
                app=self._app, package=self._embedder.package, reason=reason
            ) from error
        except Exception as error:
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"
            raise EmbedderFailedError(place=self.place, reason=reason, hint=CHECK_HINT) from error
        return base.require_vector(
            result.tolist() if hasattr(result, "tolist") else result, self.place, CHECK_HINT
        )

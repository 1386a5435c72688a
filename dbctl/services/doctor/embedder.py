"""Whether words could be looked for by their meaning: what the embedder of an app wants, without asking it anything."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from dbctl.config import Embedder, embedder_key
from dbctl.errors import EmbedderKeyMissingError, EmbedderPackageMissingError
from dbctl.model import Finding
from dbctl.services.app import App
from dbctl.services.doctor import files

#: What a package is imported by.
MODULES = {"fastembed": "fastembed", "sentence-transformers": "sentence_transformers"}
SAME = "Name the model that made the vectors, or have them made anew by this one."
LEFT_OUT = "Its profile has no [semantic]; take the section out, or write one."


def embedder(app: App, told: Embedder) -> Iterator[Finding]:
    """Yield what keeps an app's embedder from its work, and who else gets to its key."""
    for code, message, hint in _wrong(app, told):
        yield Finding(target=app.name, severity="warning", code=code, message=message, hint=hint)
    if told.key_file:
        with suppress(OSError):  # that it cannot be read is told already
            found = {Path(told.key_file): Path(told.key_file).stat()}
            for severity, code, message, hint in files.exposed(
                found, written="whoever does, decides who answers", read="it holds the key of the embedder"
            ):
                yield Finding(target=app.name, severity=severity, code=code, message=message, hint=hint)


def _wrong(app: App, told: Embedder) -> Iterator[tuple[str, str, str]]:
    """Yield code, message and hint."""
    semantic = app.profile.semantic
    if semantic is None:
        yield "embedder-idle", f"{app.profile.title} has nothing that is found by its meaning", LEFT_OUT
    elif told.model and semantic.model and told.model.removeprefix("models/") != semantic.model:
        message = f"its embedder asks {told.model}, and {semantic.model} made its vectors: similarity may mean nothing"
        yield "embedder-model-other", message, SAME
    try:
        embedder_key(app.configured)
    except EmbedderKeyMissingError as error:
        yield error.code, str(error), error.hint
    if told.command and not (shutil.which(told.command[0]) or os.access(told.command[0], os.X_OK)):
        message = f"there is no program {told.command[0]}, which is its embedder"
        yield "embedder-missing", message, "Check command under [apps.NAME.embedder]."
    if told.package and find_spec(MODULES[told.package]) is None:
        missing = EmbedderPackageMissingError(
            app=app.name, package=told.package, reason="it is not installed"
        )
        yield missing.code, str(missing), missing.hint

"""Checks of the configured embedder, without a request to it."""

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

#: Package → module.
MODULES = {"fastembed": "fastembed", "sentence-transformers": "sentence_transformers"}
MODEL_HINT = "Configure the model of the stored vectors, or recompute the vectors with this model."
SECTION_HINT = "Its profile has no [semantic]; remove the section, or add one to the profile."


def check_embedder(app: App, config: Embedder) -> Iterator[Finding]:
    """Yield problems of an app's embedder, and of the permissions of its key file."""
    for code, message, hint in _find_problems(app, config):
        yield Finding(target=app.name, severity="warning", code=code, message=message, hint=hint)
    if config.key_file:
        with suppress(OSError):  # reported above
            file_stats = {Path(config.key_file): Path(config.key_file).stat()}
            for severity, code, message, hint in files.check_access(
                file_stats,
                write_risk="this allows redirecting the requests",
                read_risk="it contains the key of the embedder",
            ):
                yield Finding(target=app.name, severity=severity, code=code, message=message, hint=hint)


def _find_problems(app: App, config: Embedder) -> Iterator[tuple[str, str, str]]:
    """Yield code, message and hint."""
    semantic = app.profile.semantic
    if semantic is None:
        yield "embedder-unused", f"{app.profile.title} has no semantic search", SECTION_HINT
    elif config.model and semantic.model and config.model.removeprefix("models/") != semantic.model:
        message = f"its embedder uses {config.model}, its vectors are from {semantic.model}: similarities may be meaningless"
        yield "embedder-model-mismatch", message, MODEL_HINT
    try:
        embedder_key(app.configured)
    except EmbedderKeyMissingError as error:
        yield error.code, str(error), error.hint
    if config.command and not (shutil.which(config.command[0]) or os.access(config.command[0], os.X_OK)):
        message = f"the program of the embedder does not exist: {config.command[0]}"
        yield "embedder-missing", message, "Check command under [apps.NAME.embedder]."
    if config.package and find_spec(MODULES[config.package]) is None:
        missing = EmbedderPackageMissingError(
            app=app.name, package=config.package, reason="it is not installed"
        )
        yield missing.code, str(missing), missing.hint

"""The check of the embedder of an app, and of the permissions of its key file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from dbctl.extensions.semantic.errors import EmbedderKeyMissingError, EmbedderPackageMissingError
from dbctl.extensions.semantic.profile import find_semantic
from dbctl.extensions.semantic.section import find_section, read_key
from dbctl.model import Finding
from dbctl.services.app.evidence.subjects import Needs, Subject, check, require
from dbctl.services.checks import files

#: Package → module.
MODULES = {"fastembed": "fastembed", "sentence-transformers": "sentence_transformers"}
MODEL_HINT = "Configure the model of the stored vectors, or recompute the vectors with this model."
SECTION_HINT = "Its profile has no [semantic]; remove the section, or add one to the profile."


@check("embedder-missing", "app", Needs.NOTHING)
def check_embedder(subject: Subject) -> Iterator[Finding]:
    """Yield problems of an app's embedder, and of the permissions of its key file."""
    app, config = subject.app, require(find_section(subject.app.configured))
    semantic = find_semantic(app.profile)
    if semantic is None:
        yield subject.finding(
            "warning", "embedder-unused", f"{app.profile.title} has no semantic search", SECTION_HINT
        )
    elif config.model and semantic.model and config.model.removeprefix("models/") != semantic.model:
        message = f"its embedder uses {config.model}, its vectors are from {semantic.model}: similarities may be meaningless"
        yield subject.finding("warning", "embedder-model-mismatch", message, MODEL_HINT)
    try:
        read_key(app.configured)
    except EmbedderKeyMissingError as error:
        yield subject.finding("warning", error.code, str(error), error.hint)
    if config.command and not (shutil.which(config.command[0]) or os.access(config.command[0], os.X_OK)):
        message = f"the program of the embedder does not exist: {config.command[0]}"
        yield subject.finding(
            "warning", "embedder-missing", message, "Check command under [apps.NAME.embedder]."
        )
    if config.package and find_spec(MODULES[config.package]) is None:
        missing = EmbedderPackageMissingError(
            app=app.name, package=config.package, reason="it is not installed"
        )
        yield subject.finding("warning", missing.code, str(missing), missing.hint)
    if config.key_file:
        with suppress(OSError):  # reported above
            file_stats = {Path(config.key_file): Path(config.key_file).stat()}
            yield from files.check_access(
                app.name,
                file_stats,
                "this allows redirecting the requests",
                "it contains the key of the embedder",
            )

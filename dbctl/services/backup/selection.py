"""Refuse options that the databases of a backup do not support, before anything is copied."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl.errors.usage import NotSupportedError, UsageError
from dbctl.model import Compression
from dbctl.services.app.app import App
from dbctl.services.backup.increments import Increments
from dbctl.services.backup.sources import Source


def require_form(app: App, sources: Sequence[Source], form: str, compress: Compression | None) -> None:
    """Refuse a format of dumps or a compression that no database supports."""
    forms = dict.fromkeys(dump_form for source in sources for dump_form in source.dumps.forms)
    if form and form not in forms:
        raise UsageError(detail=f"--format {form}: {app.name} can be dumped as {', '.join(forms)}")
    if compress and not any(source.accepts_compression(compress) for source in sources):
        raise NotSupportedError(
            feature="another compression of the backup",
            subject=app.name,
            hint="Dumps of text are compressed with gzip, or not at all: --compress none",
        )


def require_streamable(sources: Sequence[Source], increments: Increments | None) -> None:
    """Refuse a backup without local copies if one is needed."""
    for source in sources:
        if source.is_streamed and increments:
            raise NotSupportedError(
                feature="a backup without a local copy (stream)",
                subject=f"{source.target} with incremental = true",
                hint="A difference needs the whole dump in a file. Nothing was created. Set only one of both keys.",
            )
        if source.is_streamed and not source.dumps.can_stream:
            raise NotSupportedError(
                feature="a backup without a local copy (stream)",
                subject=f"{source.target} ({source.engine}), whose copy is a file",
                hint="Nothing was created. Omit --stream, or select a database on a server with --db.",
            )

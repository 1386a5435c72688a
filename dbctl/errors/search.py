"""Failures of search indexes, vectors, and embedders."""

from __future__ import annotations

from dbctl.errors.base import DbctlError, Exit


class EmbedderNotConfiguredError(DbctlError):
    code, exit_status = "embedder-not-configured", Exit.USAGE
    sentence = "no embedder is configured for {app}"
    remedy = (
        'Write [apps.{app}.embedder] into the configuration, with kind = "gemini", "openai", "command" or "local"'
        "{model}; or search with --similar-to ID or --vector FILE."
    )


class EmbedderKeyMissingError(DbctlError):
    """The text never contains any part of what may be a key."""

    code, exit_status = "embedder-key-missing", Exit.USAGE
    sentence = "the embedder of {app} has no key from {place}: {reason}"
    remedy = 'Set that variable, or set key_file = "FILE" under [apps.{app}.embedder] to a file with the key on its first line.'


class EmbedderPackageMissingError(DbctlError):
    code, exit_status = "embedder-package-missing", Exit.USAGE
    sentence = "the embedder of {app} requires the package {package} ({reason})"
    remedy = "Install it with pip install {package}, or pipx inject dbctl {package}."


class EmbedderFailedError(DbctlError):
    """The text never contains the answer of a service, which may repeat a key."""

    code, exit_status = "embedder-failed", Exit.FAILED
    sentence, remedy = "{place} returned no vector: {reason}", "{hint}"


class EmbedderUnreachableError(DbctlError):
    code, exit_status = "embedder-unreachable", Exit.UNREACHABLE
    sentence, remedy = "cannot reach the embedder {place}: {reason}", "{hint}"


class EmbedderBusyError(DbctlError):
    code, exit_status = "embedder-busy", Exit.BUSY
    sentence = "{place} accepts no further requests at the moment: {reason}"
    remedy = "Try again later, or raise timeout under [apps.NAME.embedder]."


class EmbedderRefusedError(DbctlError):
    code, exit_status = "embedder-refused", Exit.REFUSED
    sentence = "{place} rejected the key from {key_source}: {reason}"
    remedy = "Check the key and its permissions."


class VectorInvalidError(DbctlError):
    code, exit_status = "vector-invalid", Exit.USAGE
    sentence, remedy = "{place} is not a usable vector: {reason}", "{hint}"


class VectorIndexUnsuitableError(DbctlError):
    code, exit_status = "vector-index-unsuitable", Exit.REFUSED
    sentence, remedy = "{target}: cannot index {name}: {reason}", "Nothing was changed. {hint}"


class VectorMissingError(DbctlError):
    code, exit_status = "vector-missing", Exit.NOT_FOUND
    sentence, remedy = "{target} has no vector for {kind} {id!r}", "{hint}"


class TextIndexInvalidError(DbctlError):
    code, exit_status = "text-index-invalid", Exit.FAILED
    sentence = "{target}: the new index {name} failed verification: {reason}"
    remedy = "It was rolled back. Please report this error."


class TextIndexForeignError(DbctlError):
    code, exit_status = "text-index-foreign", Exit.REFUSED
    sentence = "{target}: {name} is a table, not a full-text index"
    remedy = "Nothing was changed. Rename that table, then run: `search index build`"

"""Failures of search indexes, vectors, and embedders."""

from __future__ import annotations

from dbctl.errors.base import DbctlError, Exit


class EmbedderUnsetError(DbctlError):
    code, exit_status = "embedder-unset", Exit.USAGE
    sentence = "nothing says what makes vectors of words for {app}"
    remedy = (
        'Write [apps.{app}.embedder] into the configuration, with kind = "gemini", "openai", "command" or "local"'
        "{model}. Without a model: --similar-to ID, or --vector FILE."
    )


class EmbedderKeyMissingError(DbctlError):
    """Never says a word of what may be a key."""

    code, exit_status = "embedder-key-missing", Exit.USAGE
    sentence = "the embedder of {app} has no key from {place}: {reason}"
    remedy = 'Set that variable, or write key_file = "FILE" under [apps.{app}.embedder] and the key on the file\'s first line.'


class EmbedderPackageMissingError(DbctlError):
    code, exit_status = "embedder-package-missing", Exit.USAGE
    sentence = "the embedder of {app} wants the package {package}, which cannot be loaded ({reason})"
    remedy = "pip install {package} into the environment of dbctl; with pipx: pipx inject dbctl {package}."


class EmbedderFailedError(DbctlError):
    """Never says what a service wrote, which may repeat a key."""

    code, exit_status = "embedder-failed", Exit.FAILED
    sentence, remedy = "{place} made no vector: {reason}", "{instead}"


class EmbedderUnreachableError(DbctlError):
    code, exit_status = "embedder-unreachable", Exit.UNREACHABLE
    sentence, remedy = "{place} cannot be asked for a vector: {reason}", "{instead}"


class EmbedderBusyError(DbctlError):
    code, exit_status = "embedder-busy", Exit.BUSY
    sentence = "{place} takes no more questions for now: {reason}"
    remedy = "Try again later, or give it longer: timeout under [apps.NAME.embedder]."


class EmbedderRefusedError(DbctlError):
    code, exit_status = "embedder-refused", Exit.REFUSED
    sentence = "{place} refuses the key from {key}: {reason}"
    remedy = "Check the key, and what it is allowed to do."


class VectorInvalidError(DbctlError):
    code, exit_status = "vector-invalid", Exit.USAGE
    sentence, remedy = "{place} is no vector that can be searched by: {reason}", "{instead}"


class VectorIndexUnfitError(DbctlError):
    code, exit_status = "vector-index-unfit", Exit.REFUSED
    sentence, remedy = "{target}: no index is made of {name}: {reason}", "{instead} Nothing was changed."


class VectorMissingError(DbctlError):
    code, exit_status = "vector-missing", Exit.NOT_FOUND
    sentence, remedy = "{target} has no vector of {what} {id!r}", "{instead}"


class TextIndexUnsoundError(DbctlError):
    code, exit_status = "text-index-unsound", Exit.FAILED
    sentence = "{target}: {name} was made, and does not hold what it should: {reason}"
    remedy = "Everything was rolled back; please report it."


class TextIndexForeignError(DbctlError):
    code, exit_status = "text-index-foreign", Exit.REFUSED
    sentence = "{target}: {name} is no index of words but a table with rows of its own"
    remedy = (
        "Nothing was changed. Give that table another name, then dbctl search index build makes the index."
    )

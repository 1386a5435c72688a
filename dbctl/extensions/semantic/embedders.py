"""Embedders: the protocol, and services, programs and packages that compute vectors of text."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

import msgspec

from dbctl import url
from dbctl.config.model import App
from dbctl.extensions.semantic import http_client
from dbctl.extensions.semantic.errors import (
    EmbedderFailedError,
    EmbedderNotConfiguredError,
    EmbedderPackageMissingError,
    EmbedderUnreachableError,
)
from dbctl.extensions.semantic.http_client import HttpRequest
from dbctl.extensions.semantic.section import Embedder as EmbedderConfig
from dbctl.extensions.semantic.section import find_section, read_key
from dbctl.files import limited_program
from dbctl.model import JSON_ERRORS
from dbctl.units import parse_duration

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
    """Return the embedder of an app; no request is sent and no key is read. The error names ``vector_model``, that of the searched vectors.

    Raises:
        EmbedderNotConfiguredError: no embedder is configured.
    """
    section = find_section(app)
    if section is None:
        raise EmbedderNotConfiguredError(
            app=app.name,
            model=f", and the model that computed its vectors ({vector_model})" if vector_model else "",
        )
    if section.kind == "command":
        return Command(section)
    if section.kind == "local":
        return Local(app, section)

    return Service(app, section)


class Provider(NamedTuple):
    """The requests and responses of a kind of service."""

    path: Callable[[EmbedderConfig], str]
    key: Callable[[str], Mapping[str, str]]  #: headers with the key; the path would be logged
    body: Callable[[EmbedderConfig, str], Mapping[str, object]]
    #: Returns the vector of a response; raises LookupError or TypeError.
    extract_vector: Callable[[Any], object]


def _model_path(section: EmbedderConfig) -> str:
    return section.model if "/" in section.model else f"models/{section.model}"


def _gemini_body(section: EmbedderConfig, text: str) -> Mapping[str, object]:
    optional = {"outputDimensionality": section.dimensions, "taskType": section.task}
    options = {name: value for name, value in optional.items() if value}
    return {"model": _model_path(section), "content": {"parts": [{"text": text}]}, **options}


def _openai_body(section: EmbedderConfig, text: str) -> Mapping[str, object]:
    options = {"dimensions": section.dimensions} if section.dimensions else {}
    return {"model": section.model, "input": text, "encoding_format": "float", **options}


PROVIDERS: Mapping[str, Provider] = {
    "gemini": Provider(
        path=lambda section: f"/{quote(_model_path(section))}:embedContent",
        key=lambda key: {"x-goog-api-key": key},
        body=_gemini_body,
        extract_vector=lambda answer: answer["embedding"]["values"],
    ),
    "openai": Provider(
        path=lambda _: "/embeddings",
        key=lambda key: {"Authorization": f"Bearer {key}"},
        body=_openai_body,
        extract_vector=lambda answer: answer["data"][0]["embedding"],
    ),
}


class Service:
    """A configured service."""

    def __init__(self, app: App, section: EmbedderConfig) -> None:
        self._app, self._section, self._provider = app, section, PROVIDERS[section.kind]
        self._endpoint = url.parse_endpoint(section.url)
        self.place = f"{self._endpoint} ({section.model})"

    def embed(self, text: str) -> Sequence[float]:
        key = read_key(self._app)
        request = HttpRequest(
            endpoint=self._endpoint,
            path=self._provider.path(self._section),
            headers=self._provider.key(key.reveal()) if key else {},
            body=self._provider.body(self._section, text),
            timeout=parse_duration(self._section.timeout).total_seconds(),
            key=key,
            key_source=self._section.key_file or self._section.key_env,
        )
        response = http_client.send_request(request)
        try:
            vector_value = self._provider.extract_vector(response)
        except (LookupError, TypeError) as error:
            raise EmbedderFailedError(
                place=self.place, reason="its response contains no vector", hint=http_client.URL_HINT
            ) from error
        return require_vector(vector_value, self.place, http_client.URL_HINT)


#: Maximum bytes of output.
MAX_OUTPUT_BYTES = 4 << 20
#: Maximum characters of the program's error message.
MAX_ERROR_CHARACTERS = 300
COMMAND_HINT = "Run the program manually: it reads text from standard input and writes a JSON array of numbers to standard output."
#: The remedies of a program that does not answer.
UNREACHABLE_HINTS = {
    "missing": "Check command under [apps.NAME.embedder]; it is a list: the program and its arguments.",
    "slow": "Increase timeout under [apps.NAME.embedder].",
}


class Command:
    """A configured program, run without a shell in the environment of dbctl."""

    def __init__(self, section: EmbedderConfig) -> None:
        self._argv = list(section.command)
        self._seconds = parse_duration(section.timeout).total_seconds()
        self.place = self._argv[0]

    def embed(self, text: str) -> Sequence[float]:
        try:
            output = limited_program.run(
                self._argv, seconds=self._seconds, max_bytes=MAX_OUTPUT_BYTES, stdin=text.encode()
            )
        except limited_program.ProgramFailedError as error:
            if hint := UNREACHABLE_HINTS.get(error.cause):
                raise EmbedderUnreachableError(place=self.place, reason=str(error), hint=hint) from error
            reason = (
                f"{error}: {error.error_lines[-1][:MAX_ERROR_CHARACTERS]}"
                if error.error_lines
                else str(error)
            )
            raise EmbedderFailedError(place=self.place, reason=reason, hint=COMMAND_HINT) from error
        try:
            result = msgspec.json.decode(output)
        except JSON_ERRORS as error:
            reason = "no output" if not output.strip() else "the output is not JSON"
            raise EmbedderFailedError(place=self.place, reason=reason, hint=COMMAND_HINT) from error
        return require_vector(result, self.place, COMMAND_HINT)


LOCAL_HINT = (
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

    def __init__(self, app: App, embedder: EmbedderConfig) -> None:
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
            raise EmbedderFailedError(place=self.place, reason=reason, hint=LOCAL_HINT) from error
        return require_vector(
            result.tolist() if hasattr(result, "tolist") else result, self.place, LOCAL_HINT
        )

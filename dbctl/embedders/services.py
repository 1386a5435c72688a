"""Embedding services: Google and OpenAI-compatible ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from dbctl import url
from dbctl.config.model import App, Embedder
from dbctl.config.secrets import embedder_key
from dbctl.embedders import base, http_client
from dbctl.embedders.http_client import HttpRequest
from dbctl.errors.search import EmbedderFailedError
from dbctl.units import parse_duration


class Provider(NamedTuple):
    """The requests and responses of a kind of service."""

    path: Callable[[Embedder], str]
    key: Callable[[str], Mapping[str, str]]  #: headers with the key; the path would be logged
    body: Callable[[Embedder, str], Mapping[str, object]]
    #: Returns the vector of a response; raises LookupError or TypeError.
    extract_vector: Callable[[Any], object]


def _model_path(section: Embedder) -> str:
    return section.model if "/" in section.model else f"models/{section.model}"


def _gemini_body(section: Embedder, text: str) -> Mapping[str, object]:
    optional = {"outputDimensionality": section.dimensions, "taskType": section.task}
    options = {name: value for name, value in optional.items() if value}
    return {"model": _model_path(section), "content": {"parts": [{"text": text}]}, **options}


def _openai_body(section: Embedder, text: str) -> Mapping[str, object]:
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

    def __init__(self, app: App, section: Embedder) -> None:
        self._app, self._section, self._provider = app, section, PROVIDERS[section.kind]
        self._endpoint = url.parse_endpoint(section.url)
        self.place = f"{self._endpoint} ({section.model})"

    def embed(self, text: str) -> Sequence[float]:
        key = embedder_key(self._app)
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
        return base.require_vector(vector_value, self.place, http_client.URL_HINT)

"""Services that make vectors of words: Google's, and those that answer as OpenAI's does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from dbctl import url
from dbctl.config import App, Embedder, embedder_key
from dbctl.embedders import base, http_client
from dbctl.embedders.http_client import Question
from dbctl.errors import EmbedderFailedError
from dbctl.model import read_span


class Way(NamedTuple):
    """How a kind of service is asked, and what it answers."""

    path: Callable[[Embedder], str]
    key: Callable[[str], Mapping[str, str]]  #: the headers that carry it; never the path, which is logged
    body: Callable[[Embedder, str], Mapping[str, object]]
    found: Callable[
        [Any], object
    ]  #: the vector in an answer; raises LookupError or TypeError where it is none


def _resource(told: Embedder) -> str:
    return told.model if "/" in told.model else f"models/{told.model}"


def _gemini(told: Embedder, text: str) -> Mapping[str, object]:
    more = {"outputDimensionality": told.dimensions, "taskType": told.task}
    said = {name: value for name, value in more.items() if value}
    return {"model": _resource(told), "content": {"parts": [{"text": text}]}, **said}


def _openai(told: Embedder, text: str) -> Mapping[str, object]:
    said = {"dimensions": told.dimensions} if told.dimensions else {}
    return {"model": told.model, "input": text, "encoding_format": "float", **said}


WAYS: Mapping[str, Way] = {
    "gemini": Way(
        path=lambda told: f"/{quote(_resource(told))}:embedContent",
        key=lambda key: {"x-goog-api-key": key},
        body=_gemini,
        found=lambda answer: answer["embedding"]["values"],
    ),
    "openai": Way(
        path=lambda _: "/embeddings",
        key=lambda key: {"Authorization": f"Bearer {key}"},
        body=_openai,
        found=lambda answer: answer["data"][0]["embedding"],
    ),
}


class Service:
    """A service, as an app's configuration describes it."""

    def __init__(self, app: App, told: Embedder) -> None:
        self._app, self._told, self._way = app, told, WAYS[told.kind]
        self._endpoint = url.endpoint(told.url)
        self.place = f"{self._endpoint} ({told.model})"

    def embed(self, text: str) -> Sequence[float]:
        key = embedder_key(self._app)
        question = Question(
            endpoint=self._endpoint,
            path=self._way.path(self._told),
            headers=self._way.key(key.reveal()) if key else {},
            body=self._way.body(self._told, text),
            timeout=read_span(self._told.timeout).total_seconds(),
            key=key,
            key_from=self._told.key_file or self._told.key_env,
        )
        answer = http_client.ask(question)
        try:
            found = self._way.found(answer)
        except (LookupError, TypeError) as error:
            raise EmbedderFailedError(
                place=self.place, reason="its answer holds no vector", instead=http_client.WHAT
            ) from error
        return base.vector(found, self.place, http_client.WHAT)

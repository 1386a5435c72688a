"""The section of the embedder in ``dbctl.toml``, and the key of its service."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import structs

from dbctl.config.environment import VARIABLE_PATTERN, VariableUnreadableError
from dbctl.config.model import App
from dbctl.config.resolver import ConfigSection, Resolver
from dbctl.config.secrets import read_app_variable, read_first_line
from dbctl.errors.usage import UrlInvalidError
from dbctl.extensions.semantic.errors import EmbedderKeyMissingError
from dbctl.files import atomic
from dbctl.model import Secret
from dbctl.units import is_duration
from dbctl.url import parse_endpoint

#: Of the section.
NAME = "embedder"
#: The characters and lengths that the key of a service may have.
_KEY_PATTERN = r"[!-~]{1,4096}"

#: The kinds of programs and services that compute the vector of a text.
EmbedderKind: TypeAlias = Literal["gemini", "openai", "command", "local"]


class Embedder(ConfigSection, frozen=True, kw_only=True):
    """``[apps.NAME.embedder]``: computes the vector of a text, with the model that the app uses.

    Kinds: ``gemini``, Google's service; ``openai``, any service with an OpenAI-compatible ``/embeddings`` endpoint;
    ``command``, a program that reads the text from standard input and writes a JSON array; ``local``, a Python package in
    dbctl's environment.
    """

    kind: EmbedderKind  #: the program or service
    model: str = ""  #: the name of the model
    url: str = ""  #: base URL of another service, with its version: ``https://host/v1``
    key_env: str = ""  #: the variable or secret with the key; default without ``url``: that of the service
    key_file: str = ""  #: a file whose first line is the key
    #: the numbers of a vector, for models that support several
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=65_536)] | None = None
    task: str = ""  #: gemini: the purpose of the vector, ``RETRIEVAL_QUERY``
    command: Sequence[str] = ()  #: the program and its arguments, run without a shell
    #: local: the package that computes vectors
    package: Literal["", "fastembed", "sentence-transformers"] = ""
    timeout: str = "30s"  #: for all attempts together

    def resolve(self, resolver: Resolver) -> "Embedder":
        for name, reason in check_embedder(self):
            resolver.report(reason, NAME, name)
        service = SERVICES.get(self.kind, ("", ""))
        default_key = "" if self.url or self.key_file else service[1]
        address = self.url or service[0]
        resolved = structs.replace(
            self,
            url=address,
            key_env=self.key_env or default_key,
            key_file=resolver.resolve_file(self.key_file),
            command=resolver.resolve_command(self.command),
        )
        if self.kind in SERVICES and (reason := _find_address_problem(resolved)):
            resolver.report(reason, NAME, "url")
        return resolved

    @property
    def names_program(self) -> bool:
        return bool(self.command)


#: The default URL of a service, and the variable of its key, which is not sent to other URLs by default.
SERVICES = {
    "gemini": ("https://generativelanguage.googleapis.com/v1beta", "GEMINI_API_KEY"),
    "openai": ("https://api.openai.com/v1", "OPENAI_API_KEY"),
}

_REMOTE = ("url", "key_env", "key_file", "dimensions")

#: The required and the optional keys of each kind of embedder.
_EMBEDDERS: Mapping[EmbedderKind, tuple[Sequence[str], Sequence[str]]] = {
    "gemini": (["model"], [*_REMOTE, "task"]),
    "openai": (["model"], _REMOTE),
    "command": (["command"], ["model"]),
    "local": (["model", "package"], []),
}


def check_embedder(embedder: Embedder) -> Iterator[tuple[str, str]]:
    """Yield the invalid keys of an embedder, with the reason."""
    required, optional = _EMBEDDERS[embedder.kind]
    for name in ("model", *_REMOTE, "task", "command", "package"):
        if getattr(embedder, name) and name not in (*required, *optional):
            yield name, f"an embedder of kind {embedder.kind} does not accept it"
        if name in required and not getattr(embedder, name):
            yield name, f"an embedder of kind {embedder.kind} requires it"
    if not is_duration(embedder.timeout, may_be_zero=False):
        yield "timeout", f"{embedder.timeout!r} is not a duration; write 30s or 2m"
    if embedder.command and not embedder.command[0]:
        yield "command", "the program is missing"
    if embedder.key_env and embedder.key_file:
        yield "key_file", "use either key_env or key_file"
    if embedder.key_env and not re.fullmatch(VARIABLE_PATTERN, f"${{{embedder.key_env}}}"):
        yield "key_env", "it must be the name of a variable, not the key itself"


def _find_address_problem(section: Embedder) -> str:
    """Return why the address of a service is refused; empty: it is not."""
    try:
        endpoint = parse_endpoint(section.url)
    except UrlInvalidError as error:
        return str(error.context["reason"])
    if (section.key_env or section.key_file) and not (endpoint.secure or endpoint.is_loopback):
        return "the key would be sent unencrypted; write https://, or use no key"
    return ""


def find_section(app: App) -> Embedder | None:
    """Return the embedder of an app; None: none is configured."""
    return app.extension_section(NAME, Embedder)


def read_key(app: App) -> Secret | None:
    """Return the key of an app's embedder, from the configured variable or file; None: neither is configured.

    Raises:
        EmbedderKeyMissingError: the variable or file is missing, or its value is not a key.
    """
    embedder = find_section(app)
    if embedder is None or not (embedder.key_env or embedder.key_file):
        return None
    source = embedder.key_file or embedder.key_env
    try:
        text = (
            read_first_line(Path(embedder.key_file))
            if embedder.key_file
            else read_app_variable(app, embedder.key_env).reveal()
        ).strip()
    except VariableUnreadableError as error:
        raise EmbedderKeyMissingError(app=app.name, place=source, reason=str(error)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise EmbedderKeyMissingError(
            app=app.name, place=source, reason=atomic.explain_failure(error)
        ) from error
    if not re.fullmatch(_KEY_PATTERN, text):
        reason = (
            "it is empty"
            if not text
            else "it contains characters that keys do not have (blanks or non-ASCII)"
        )
        raise EmbedderKeyMissingError(app=app.name, place=source, reason=reason)
    return Secret(text)

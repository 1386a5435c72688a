"""The sections ``[notify]`` and ``[apps.NAME.notify]``: invalid values, the section of an app, addresses and secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec import structs

from dbctl.config.environment import VARIABLE_PATTERN, VariableUnreadableError, fill_variables, read_variable
from dbctl.config.model import AppConfig, EmailConfig, JobCommand, NotifyConfig, NtfyConfig, WebhookConfig
from dbctl.config.sections import Sections
from dbctl.errors.usage import UrlInvalidError
from dbctl.files import atomic
from dbctl.model import Secret
from dbctl.units import is_duration
from dbctl.url import Endpoint, parse_endpoint

#: Keys, and the reason why the value is invalid.
Problem = tuple[Sequence[str], str]

_PLACEHOLDER = r"(?<!\$)\{([^{}]*)\}"
_PLACEHOLDERS = frozenset({"app", "command"})
_ADDRESS = r"""[^@\s<>,;:"()\x00-\x1f\x7f]+@[^@\s<>,;:"()\x00-\x1f\x7f]+"""
_HOST = r"[A-Za-z0-9._-]+|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]+"
#: The keys with a variable and a file of a channel, which exclude each other.
_SECRETS = {
    "ntfy": ("token_env", "token_file"),
    "webhook": ("secret_env", "secret_file"),
    "email": ("password_env", "password_file"),
}


class HttpAddress(NamedTuple):
    """An address of a web service; parts of its path or query may be secret."""

    endpoint: Endpoint
    query: str

    @property
    def place(self) -> str:
        """The address for messages, without path and query."""
        return str(structs.replace(self.endpoint, path=""))

    def extend(self, path: str, query: str = "") -> str:
        """Return the complete address, with a further path and query."""
        text = "&".join(filter(None, (self.query, query)))
        return f"{self.endpoint}{path}{'?' * bool(text)}{text}"


def parse_http_address(text: str) -> HttpAddress:
    """Parse ``https://HOST:PORT/PATH?QUERY``.

    Raises:
        UrlInvalidError: the address is invalid; the error does not contain the text.
    """
    base, _, query = text.partition("?")
    if not re.fullmatch(r"[!-~]*", query) or "#" in query:
        raise UrlInvalidError(reason="write https://HOST:PORT/PATH, without a login and a #")
    return HttpAddress(parse_endpoint(base), query)


def merge_notify(shared: NotifyConfig, app: AppConfig | None) -> NotifyConfig:
    """Return the section of an app: its own keys, and those of ``[notify]`` that it does not set."""
    if app is None or app.notify == NotifyConfig():
        return shared
    own = {name: value for name in NotifyConfig.__struct_fields__ if (value := getattr(app.notify, name))}
    if app.notify.on is not None:
        own["on"] = app.notify.on
    return structs.replace(shared, **own)


def find_problems(sections: Sections) -> Iterator[Problem]:
    """Yield the invalid values of all sections, without reading a variable or file; the keys include the section."""
    for name, app in sections.apps.items():
        for key, reason in _check(app.notify, is_shared=False):
            yield ("apps", name, "notify", *key), reason
    for key, reason in _check(sections.notify, is_shared=len(sections.apps) > 1):
        yield ("notify", *key), reason


def _check(section: NotifyConfig, *, is_shared: bool) -> Iterator[Problem]:
    """Yield the invalid keys of a section.

    Args:
        section: the section.
        is_shared: whether it applies to several apps.
    """
    if section.repeat and not is_duration(section.repeat):
        yield ("repeat",), f"{section.repeat!r} is not a duration; write 12h or 3d"
    yield from _check_ping(section.ping, is_shared=is_shared)
    for name, keys in _SECRETS.items():
        if channel := getattr(section, name):
            yield from _check_secret(name, channel, *keys)
    if section.ntfy:
        yield from _check_ntfy(section.ntfy)
    if section.webhook:
        yield from _check_url(section.webhook.url, ("webhook", "url"))
    if section.email:
        for key, reason in _check_email(section.email):
            yield ("email", key), reason
    if section.apprise and not all(section.apprise.urls or [""]):
        yield ("apprise", "urls"), "it is empty"


def _check_ping(ping: Mapping[JobCommand, str] | str, *, is_shared: bool) -> Iterator[Problem]:
    addresses = [(("ping",), ping)] if isinstance(ping, str) else [(("ping", job), ping[job]) for job in ping]
    for key, text in addresses:
        placeholders = set(re.findall(_PLACEHOLDER, text))
        if unknown := sorted(placeholders - _PLACEHOLDERS):
            yield key, f"{{{unknown[0]}}} is unknown; write {{app}} or {{command}}"
        elif len(key) == 1 and "command" not in placeholders:
            yield (
                key,
                "an address for all jobs must contain {command}, or one job would hide the failure of another",
            )
        elif is_shared and "app" not in placeholders:
            yield (
                key,
                "an address for all apps must contain {app}, or one app would hide the failure of another",
            )
        else:
            yield from _check_url(re.sub(_PLACEHOLDER, "x", text), key)


def _check_secret(name: str, channel: object, env_key: str, file_key: str) -> Iterator[Problem]:
    variable, file = getattr(channel, env_key), getattr(channel, file_key)
    if variable and file:
        yield (name, file_key), f"use either {env_key} or {file_key}"
    if variable and not re.fullmatch(VARIABLE_PATTERN, f"${{{variable}}}"):
        yield (name, env_key), "it must be the name of a variable or secret, not the secret itself"


def _check_ntfy(section: NtfyConfig) -> Iterator[Problem]:
    yield from _check_url(section.url, ("ntfy", "url"))
    if "${" in section.url:
        return
    try:
        endpoint = parse_http_address(section.url).endpoint
    except UrlInvalidError:
        return
    if endpoint.path.count("/") != 1:
        yield ("ntfy", "url"), "the path is not a topic; write https://ntfy.sh/TOPIC"
    if (section.token_env or section.token_file) and not (endpoint.secure or endpoint.is_loopback):
        yield ("ntfy", "url"), "the token would be sent unencrypted; write https://, or use no token"


def _check_url(text: str, key: Sequence[str]) -> Iterator[Problem]:
    """Yield the problem of an address, if no variable is part of it."""
    if "${" not in text:
        try:
            parse_http_address(text)
        except UrlInvalidError as error:
            yield key, str(error.context["reason"])


def _check_email(section: EmailConfig) -> Iterator[tuple[str, str]]:
    if not section.to:
        yield "to", "it is empty"
    for key, addresses in (("to", section.to), ("sender", [section.sender] if section.sender else [])):
        if any(not re.fullmatch(_ADDRESS, address) for address in addresses):
            yield key, "it is not an e-mail address; write ann@example.org"
    if not re.fullmatch(_HOST, section.host):
        yield "host", "it is not the name or the address of a server"
    has_password = bool(section.password_env or section.password_file)
    if section.user and section.tls == "none":
        yield "tls", "the password would be sent unencrypted; write starttls or implicit, or use no user"
    elif bool(section.user) != has_password:
        yield "user", "user requires password_env or password_file, and the reverse"


def fill_placeholders(text: str, values: Mapping[str, str]) -> str:
    """Replace ``{app}`` and ``{command}``, but not variables such as ``${app}``."""
    return re.sub(_PLACEHOLDER, lambda match: values.get(match[1], match[0]), text)


def fill_address(text: str) -> HttpAddress:
    """Return an address with the values of its variables.

    Raises:
        VariableUnreadableError: a variable cannot be read, or the resulting address is invalid. The text contains no value.
    """
    try:
        return parse_http_address(fill_text(text))
    except UrlInvalidError as error:
        raise VariableUnreadableError(f"the address is invalid: {error.context['reason']}") from None


def fill_text(text: str) -> str:
    """Return a text with the values of its variables.

    Raises:
        VariableUnreadableError: a variable cannot be read.
    """

    def report(_key: object, reason: str) -> None:
        raise VariableUnreadableError(reason)

    return fill_variables(text, (), report, {})


def read_channel_secret(
    name: str, channel: NtfyConfig | WebhookConfig | EmailConfig, folder: Path
) -> Secret | None:
    """Return the token, key or password of a channel; None: none is configured.

    Args:
        name: ``ntfy``, ``webhook`` or ``email``.
        channel: the section.
        folder: the base of relative paths.

    Raises:
        VariableUnreadableError: it cannot be read, or is empty.
    """
    variable, file = (getattr(channel, key) for key in _SECRETS[name])
    if not (variable or file):
        return None
    try:
        text = atomic.read_settings(folder / atomic.expand_home(file)) if file else read_variable(variable)
    except (OSError, UnicodeDecodeError) as error:
        raise VariableUnreadableError(f"{file} cannot be read: {atomic.explain_failure(error)}") from error
    text = text.partition("\n")[0].removesuffix("\r")
    if not text:
        raise VariableUnreadableError(f"{file or variable} is empty")
    return Secret(text)

"""The sections ``[notify]`` and ``[apps.NAME.notify]``, their channels and their invalid values."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, Literal, TypeAlias, get_args

import msgspec
from msgspec import structs

from dbctl.config.environment import VARIABLE_PATTERN
from dbctl.config.model import JobCommand
from dbctl.config.resolver import ConfigSection
from dbctl.config.sections import Sections
from dbctl.errors.usage import UrlInvalidError
from dbctl.extensions.base import Place
from dbctl.extensions.notify.addresses import PLACEHOLDER, parse_http_address
from dbctl.units import is_duration

#: Of the sections.
NAME = "notify"
#: Keys, and the reason why the value is invalid.
Problem: TypeAlias = tuple[Sequence[str], str]

#: The reasons for a message.
NotifyEvent: TypeAlias = Literal["failed", "recovered", "overdue", "finding", "summary"]

_PLACEHOLDERS = frozenset({"app", "command"})
_ADDRESS = r"""[^@\s<>,;:"()\x00-\x1f\x7f]+@[^@\s<>,;:"()\x00-\x1f\x7f]+"""
_HOST = r"[A-Za-z0-9._-]+|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]+"


class ChannelSection(ConfigSection, frozen=True, kw_only=True):
    """The base class of sections of channels."""

    #: its ``Channel`` of ``channels.base``, a class that is called with the section and the base of relative paths
    channel: ClassVar[Place]
    #: the keys with the variable and with the file of its secret, which exclude each other
    secret_keys: ClassVar[tuple[str, str] | None] = None

    def find_problems(self, apps: Collection[str]) -> Iterator[Problem]:  # noqa: ARG002 - for subclasses
        if self.secret_keys is None:
            return
        env_key, file_key = self.secret_keys
        variable, file = getattr(self, env_key), getattr(self, file_key)
        if variable and file:
            yield (file_key,), f"use either {env_key} or {file_key}"
        if variable and not re.fullmatch(VARIABLE_PATTERN, f"${{{variable}}}"):
            yield (env_key,), "it must be the name of a variable or secret, not the secret itself"


class NtfyConfig(ChannelSection, frozen=True, kw_only=True):
    """``[notify.ntfy]``: push messages through ntfy.sh, or another ntfy server, by the Python package Apprise."""

    channel = "dbctl.extensions.notify.channels.apprise:Ntfy"
    secret_keys = ("token_env", "token_file")

    url: str  #: the address of the topic
    token_env: str = ""  #: the variable or secret with the access token
    token_file: str = ""  #: a file with the access token, instead of a variable

    def find_problems(self, apps: Collection[str]) -> Iterator[Problem]:
        yield from super().find_problems(apps)
        yield from check_address(self.url, ("url",))
        if "${" in self.url:
            return
        try:
            endpoint = parse_http_address(self.url).endpoint
        except UrlInvalidError:
            return
        if endpoint.path.count("/") != 1:
            yield ("url",), "the path is not a topic; write https://ntfy.sh/TOPIC"
        if (self.token_env or self.token_file) and not (endpoint.secure or endpoint.is_loopback):
            yield ("url",), "the token would be sent unencrypted; write https://, or use no token"


class WebhookConfig(ChannelSection, frozen=True, kw_only=True):
    """``[notify.webhook]``: HTTP requests with JSON, signed as Standard Webhooks specifies."""

    channel = "dbctl.extensions.notify.channels.webhook:Webhook"
    secret_keys = ("secret_env", "secret_file")

    url: str  #: the address that receives the requests
    #: the variable or secret with the key of the signature; none: requests are not signed
    secret_env: str = ""
    secret_file: str = ""  #: a file with the key, instead of a variable

    def find_problems(self, apps: Collection[str]) -> Iterator[Problem]:
        yield from super().find_problems(apps)
        yield from check_address(self.url, ("url",))


class EmailConfig(ChannelSection, frozen=True, kw_only=True):
    """``[notify.email]``: e-mail through an SMTP server."""

    channel = "dbctl.extensions.notify.channels.email:Email"
    secret_keys = ("password_env", "password_file")

    to: Sequence[str]  #: the addresses of the recipients
    sender: str = ""  #: the address of the sender; default: ``dbctl@`` and the name of the machine
    host: str  #: the SMTP server
    #: default: 587, with ``implicit`` 465, without TLS 25
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] | None = None
    tls: Literal["starttls", "implicit", "none"] = "starttls"  #: ``none``: not encrypted, and without a login
    user: str = ""  #: the login
    password_env: str = ""  #: the variable or secret with the password
    password_file: str = ""  #: a file with the password, instead of a variable

    def find_problems(self, apps: Collection[str]) -> Iterator[Problem]:
        yield from super().find_problems(apps)
        if not self.to:
            yield ("to",), "it is empty"
        for key, addresses in (("to", self.to), ("sender", [self.sender] if self.sender else [])):
            if any(not re.fullmatch(_ADDRESS, address) for address in addresses):
                yield (key,), "it is not an e-mail address; write ann@example.org"
        if not re.fullmatch(_HOST, self.host):
            yield ("host",), "it is not the name or the address of a server"
        if self.user and self.tls == "none":
            yield (
                ("tls",),
                "the password would be sent unencrypted; write starttls or implicit, or use no user",
            )
        elif bool(self.user) != bool(self.password_env or self.password_file):
            yield ("user",), "user requires password_env or password_file, and the reverse"


class AppriseConfig(ChannelSection, frozen=True, kw_only=True):
    """``[notify.apprise]``: the services of the Python package Apprise."""

    channel = "dbctl.extensions.notify.channels.apprise:Apprise"

    urls: Sequence[str]  #: the addresses of services, in the form that Apprise defines

    def find_problems(self, apps: Collection[str]) -> Iterator[Problem]:
        yield from super().find_problems(apps)
        if not all(self.urls or [""]):
            yield ("urls",), "it is empty"


class NotifyConfig(ConfigSection, frozen=True, kw_only=True):
    """``[notify]``, and ``[apps.NAME.notify]`` for one app, whose keys replace those of ``[notify]``: channels and rules of notifications."""

    #: the ping address of each job (Healthchecks protocol); a text with ``{command}`` and ``{app}`` is that of every job
    ping: dict[JobCommand, str] | str = msgspec.field(default_factory=dict)
    ntfy: NtfyConfig | None = None  #: push messages
    webhook: WebhookConfig | None = None  #: HTTP requests
    email: EmailConfig | None = None  #: e-mail
    apprise: AppriseConfig | None = None  #: the services of Apprise
    #: the reasons for messages; default: all
    on: Sequence[NotifyEvent] | None = None
    severity: Literal["", "info", "warning", "error"] = ""  #: of findings that are sent; default: ``error``
    repeat: str = ""  #: a problem that continues is sent again after this time; default: ``3d``

    @property
    def channels(self) -> Mapping[str, ChannelSection]:
        """The configured channels for messages, which are the sections below it, by their keys."""
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in values.items() if isinstance(value, ChannelSection)}

    @property
    def rules(self) -> frozenset[NotifyEvent]:
        """The reasons for messages."""
        return frozenset(get_args(NotifyEvent) if self.on is None else self.on)

    @property
    def observes_runs(self) -> bool:
        return True

    def find_problems(self, apps: Collection[str]) -> Iterator[Problem]:
        if self.repeat and not is_duration(self.repeat):
            yield ("repeat",), f"{self.repeat!r} is not a duration; write 12h or 3d"
        yield from _check_ping(self.ping, is_shared=len(apps) > 1)
        for name, channel in self.channels.items():
            for key, reason in channel.find_problems(apps):
                yield (name, *key), reason


def _check_ping(ping: Mapping[JobCommand, str] | str, *, is_shared: bool) -> Iterator[Problem]:
    addresses = [(("ping",), ping)] if isinstance(ping, str) else [(("ping", job), ping[job]) for job in ping]
    for key, text in addresses:
        placeholders = set(re.findall(PLACEHOLDER, text))
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
            yield from check_address(re.sub(PLACEHOLDER, "x", text), key)


def check_address(text: str, key: Sequence[str]) -> Iterator[Problem]:
    """Yield the problem of an address of a web service, if no variable is part of it."""
    if "${" not in text:
        try:
            parse_http_address(text)
        except UrlInvalidError as error:
            yield key, str(error.context["reason"])


def merge_sections(sections: Sections, app: str) -> tuple[NotifyConfig, Mapping[str, ChannelSection]]:
    """Return the section of an app or of an instance of a fleet, and its channels: its own, and those of ``[notify]`` that it does not set.

    Without ``app``, only ``[notify]`` and its channels.
    """
    name = app if app in sections.apps else app.partition("/")[0]
    shared = sections.extension_section(NAME, NotifyConfig) or NotifyConfig()
    own = (
        sections.extension_section(NAME, NotifyConfig, name) if name in sections.apps else None
    ) or NotifyConfig()
    rules = {key: value for key in NotifyConfig.__struct_fields__ if (value := getattr(own, key))}
    if own.on is not None:
        rules["on"] = own.on
    return structs.replace(shared, **rules), {**shared.channels, **own.channels}


def find_jobs(sections: Sections) -> Mapping[str, Collection[str]]:
    """Return the jobs that send messages about each app; the summary of all apps is a job of the first one whose channels receive it."""
    jobs, is_summarized = dict[str, Collection[str]](), False
    for app in sections.apps:
        section, channels = merge_sections(sections, app)
        rules = section.rules if channels else frozenset()
        has_summary = "summary" in rules and not is_summarized
        is_summarized |= has_summary
        jobs[app] = [*(["notify"] if rules - {"summary"} else []), *(["summary"] if has_summary else [])]
    return jobs

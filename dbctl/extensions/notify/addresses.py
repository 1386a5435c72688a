"""Addresses of web services, and the texts of the configuration that contain variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from msgspec import structs

from dbctl.config.environment import VariableUnreadableError, fill_variables
from dbctl.errors.usage import UrlInvalidError
from dbctl.url import Endpoint, parse_endpoint

#: ``{app}`` or ``{command}``, but not a variable such as ``${app}``.
PLACEHOLDER = r"(?<!\$)\{([^{}]*)\}"


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


def fill_placeholders(text: str, values: Mapping[str, str]) -> str:
    """Replace ``{app}`` and ``{command}``, but not variables such as ``${app}``."""
    return re.sub(PLACEHOLDER, lambda match: values.get(match[1], match[0]), text)


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

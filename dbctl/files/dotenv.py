"""Parser of ``.env`` files, as Node apps read them: one ``NAME=VALUE`` per line."""

from __future__ import annotations

import re
from collections.abc import Mapping

#: The grammar of the library dotenv: a quoted value may span lines; without quotes a ``#`` ends the value.
_LINE = re.compile(
    r"""^[ \t]*(?:export[ \t]+)?(?P<name>[\w.-]+)(?:[ \t]*=|:[ \t])[ \t]*
    (?P<value>'(?:\\'|[^'])*'|"(?:\\"|[^"])*"|`(?:\\`|[^`])*`|[^#\r\n]*)?[ \t]*(?:\#.*)?$""",
    re.MULTILINE | re.VERBOSE,
)


def parse_dotenv(text: str) -> Mapping[str, str]:
    """Return the variables of a file; the last of several with the same name is used, and invalid lines are ignored."""
    variables = {}
    for line in _LINE.finditer(text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")):
        value = (line["value"] or "").strip()
        quoted = len(value) > 1 and value[0] in "'\"`" and value[-1] == value[0]
        plain = value[1:-1] if quoted else value
        if quoted and value[0] == '"':
            plain = plain.replace("\\n", "\n").replace("\\r", "\r")
        variables[line["name"]] = plain
    return variables

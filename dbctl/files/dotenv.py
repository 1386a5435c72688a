"""Files of settings as apps on Node read them (``.env``): one ``NAME=VALUE`` a line."""

from __future__ import annotations

import re
from collections.abc import Mapping

#: As the library dotenv takes a file apart: a value in quotes may go on over lines; without quotes a ``#`` ends it.
_LINE = re.compile(
    r"""^[ \t]*(?:export[ \t]+)?(?P<name>[\w.-]+)(?:[ \t]*=|:[ \t])[ \t]*
    (?P<value>'(?:\\'|[^'])*'|"(?:\\"|[^"])*"|`(?:\\`|[^`])*`|[^#\r\n]*)?[ \t]*(?:\#.*)?$""",
    re.MULTILINE | re.VERBOSE,
)


def read(text: str) -> Mapping[str, str]:
    """Return the variables of a file; of several with one name the last counts, and what is no line is passed over."""
    variables = {}
    for line in _LINE.finditer(text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")):
        value = (line["value"] or "").strip()
        quoted = len(value) > 1 and value[0] in "'\"`" and value[-1] == value[0]
        plain = value[1:-1] if quoted else value
        if quoted and value[0] == '"':
            plain = plain.replace("\\n", "\n").replace("\\r", "\r")
        variables[line["name"]] = plain
    return variables

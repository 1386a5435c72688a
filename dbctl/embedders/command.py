"""An embedder program: reads text from standard input and writes a JSON array."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from dbctl.config.model import Embedder
from dbctl.embedders import base
from dbctl.errors.search import EmbedderFailedError, EmbedderUnreachableError
from dbctl.files import limited_program
from dbctl.model import JSON_ERRORS
from dbctl.units import parse_duration

#: Maximum bytes of output.
MAX_OUTPUT_BYTES = 4 << 20
#: Maximum characters of the program's error message.
MAX_ERROR_CHARACTERS = 300
CHECK_HINT = "Run the program manually: it reads text from standard input and writes a JSON array of numbers to standard output."
#: The remedies of a program that does not answer.
UNREACHABLE_HINTS = {
    "missing": "Check command under [apps.NAME.embedder]; it is a list: the program and its arguments.",
    "slow": "Increase timeout under [apps.NAME.embedder].",
}


class Command:
    """A configured program, run without a shell in the environment of dbctl."""

    def __init__(self, section: Embedder) -> None:
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
                f"{error}: {error.error_output[:MAX_ERROR_CHARACTERS]}" if error.error_output else str(error)
            )
            raise EmbedderFailedError(place=self.place, reason=reason, hint=CHECK_HINT) from error
        try:
            result = msgspec.json.decode(output)
        except JSON_ERRORS as error:
            reason = "no output" if not output.strip() else "the output is not JSON"
            raise EmbedderFailedError(place=self.place, reason=reason, hint=CHECK_HINT) from error
        return base.require_vector(result, self.place, CHECK_HINT)

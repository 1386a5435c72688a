"""Secrets that a program prints, such as a password manager."""

from __future__ import annotations

from pathlib import Path

from dbctl.config.environment import VariableUnreadableError
from dbctl.config.model import SecretSource
from dbctl.files import limited_program
from dbctl.units import parse_duration

#: Maximum bytes of the output, which may have notes below the secret.
MAX_OUTPUT_BYTES = 1 << 20


def read_command(key: str, source: SecretSource, folder: Path) -> str:
    """Return the first line that the command of a secret prints.

    Args:
        key: of the secret in the configuration, for messages.
        source: the secret.
        folder: the base of a relative path of the program; a program without a slash is searched on the PATH.

    Raises:
        VariableUnreadableError: the command fails or prints no secret. The text contains no output, also not of its errors.
    """
    program, *arguments = source.command
    argv = [str(folder / program) if "/" in program else program, *arguments]
    seconds = parse_duration(source.timeout).total_seconds()
    try:
        output = limited_program.run(argv, seconds=seconds, max_bytes=MAX_OUTPUT_BYTES)
    except limited_program.ProgramFailedError as error:
        raise VariableUnreadableError(f"{key}: {program}: {error}") from None
    try:
        line = output.partition(b"\n")[0].removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise VariableUnreadableError(f"{key}: {program}: the output is not UTF-8") from None
    if not line:
        raise VariableUnreadableError(f"{key}: {program}: the first line of the output is empty")
    return line

"""Settings of sessions that dbctl relies on, whatever the server, the database or the role prescribes."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from dbctl.engines.sql.catalog import Row
from dbctl.errors.connection import LossySettingError, ReadOnlyError

#: The locale of values of type money. A program does not set it, so metadata of a dump have the one with which it was written.
MONEY = "lc_monetary"
#: Settings by which the server reads and writes values and definitions, whatever a database or a role prescribes.
TEXT_SETTINGS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    "array_nulls": "on",
    MONEY: "C",
    "xmlbinary": "base64",
    "xmloption": "content",
    "transform_null_equals": "off",
    "exit_on_error": "off",  # otherwise the server ends the session of a rejected change
    "gin_fuzzy_search_limit": "0",  # otherwise a search by an index returns any rows, about as many as the limit
    # If the catalog is rarely vacuumed, its queries seem expensive: compiling one took 5 s, running it 0.2 s.
    "jit": "off",
}
#: Settings of each session of dbctl.
SESSION_SETTINGS = {
    "application_name": "dbctl",
    **TEXT_SETTINGS,
    "client_min_messages": "warning",  # a VACUUM of a table that it skips only warns
    "synchronize_seqscans": "off",  # otherwise a full scan starts at any row
}
#: Limits of sessions and transactions, by the version that introduced them, which are meant for the app: dbctl waits during dumps and loads.
_IDLE_LIMITS = {
    "idle_in_transaction_session_timeout": 9,
    "idle_session_timeout": 14,
    "transaction_timeout": 17,
}
STANDBY_HINT = "Nothing was changed. Use the address of the primary, or name both hosts and add ?target_session_attrs=read-write."
#: Precedes a blank in a value of an option of the server.
_BLANK = "\\ "
_RESTART = " Then restart the server, whose memory may have damaged pages."
#: Settings that lose rows without an error, with their effect, and the value of dbctl. Without one, dbctl refuses the database:
#: the pages that sessions of the app read remain in the memory of the server, without their rows, for all sessions.
LOSSY_SETTINGS = {
    "zero_damaged_pages": ("on", "damaged pages are empty", ""),
    "ignore_checksum_failure": ("on", "damaged pages are read as valid ones", ""),
    "session_replication_role": ("replica", "foreign keys and triggers have no effect", "origin"),
    "synchronous_commit": ("off", "a crash loses the last commits", "local"),
}


def override_lossy(
    session: psycopg.Connection[Row], target: str, prescribed: Sequence[object], *, read_only: bool
) -> dict[str, str]:
    """Return the values of the settings that would lose rows, whose ``prescribed`` values are in the order of the table.

    Raises:
        LossySettingError: no value is safe, or the role may not set it: only a superuser may disable foreign keys.
    """
    values = dict[str, str]()
    for (name, (lossy, effect, value)), current in zip(LOSSY_SETTINGS.items(), prescribed, strict=True):
        if current != lossy or (value and read_only):
            continue
        try:
            if not value:
                raise LossySettingError(
                    target=target, setting=name, value=lossy, effect=effect, more=_RESTART
                )
            session.execute(f"set {name} = {value}".encode())
        except psycopg.errors.InsufficientPrivilege as error:
            raise LossySettingError(
                target=target, setting=name, value=lossy, effect=effect, more=""
            ) from error
        values[name] = value
    return values


def refuse_read_only(target: str, default: str, *, in_standby: bool) -> None:
    """Refuse to write to a standby, or if ``default_transaction_read_only`` is set, although any session could override it.

    Raises:
        ReadOnlyError: one of them is the case.
    """
    if in_standby:
        raise ReadOnlyError(target=target, reason="the server is a standby", hint=STANDBY_HINT)
    if default == "on":
        raise ReadOnlyError(
            target=target,
            reason="default_transaction_read_only is on",
            hint="Nothing was changed. It is set for the role, the database, the server or the URL: check the reason,"
            " then ALTER ROLE or ALTER DATABASE … RESET default_transaction_read_only.",
        )


def unlimit_idle(server_version: int) -> dict[str, str]:
    """Return the settings that remove the limits of sessions and transactions on a server of this version."""
    return {name: "0" for name, since in _IDLE_LIMITS.items() if server_version // 10000 >= since}


def program_options() -> str:
    """Return the text settings as options of the server, for a program that connects by itself (``PGOPTIONS``)."""
    return " ".join(f"-c {name}={text.replace(' ', _BLANK)}" for name, text in TEXT_SETTINGS.items())


def quote_literal(text: str) -> str:
    """Return a literal that means the same whatever ``standard_conforming_strings`` is."""
    escaped = text.replace("'", "''")
    return f"'{escaped}'" if "\\" not in text else "E'" + escaped.replace("\\", "\\\\") + "'"

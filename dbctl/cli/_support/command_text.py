"""The command of a context as text without secrets, for the journal and the log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from dbctl.config.secrets import MASK, list_secrets, redact_message, redact_text

if TYPE_CHECKING:
    from typer._click import Context, Parameter

    from dbctl.cli._support.session import Session

#: Parameters with text that is a name, a key, a pattern or an address. The text of all others may be a secret.
_PUBLIC = frozenset(
    {
        *("app", "db", "profile", "replica", "url", "columns", "confirm", "acting_as", "config"),
        *(
            "login",
            "logins",
            "username",
            "email",
            "ids",
            "ident",
            "user",
            "of",
            "role",
            "new_owner",
            "demote_to",
        ),
        *(
            "key",
            "category",
            "permissions",
            "table",
            "tables",
            "null",
            "rules",
            "search_name",
            "name",
            "names",
        ),
        *("backup", "to", "repository", "repository_address", "dump_format", "allow_data_loss", "new_table"),
        *("migrations", "variant", "addresses", "renamed", "dropped", "alter", "directory", "env_file"),
    }
)
#: Shorter texts are not masked in messages: they would hide parts of words.
_SHORTEST = 3


class CommandText:
    """The words of one command, and the texts of its arguments that no message may contain."""

    def __init__(self, session: Session) -> None:
        self._hidden = set[str]()
        self.arguments = tuple(self._list_arguments(session))

    def mask(self, text: str) -> str:
        """Return a message without the hidden arguments and without secrets in addresses."""
        for value in sorted(self._hidden, key=len, reverse=True):
            text = text.replace(value, MASK)
        return redact_message(text)

    def _list_arguments(self, session: Session) -> Iterator[str]:
        """Yield the arguments and options that the user passed, with the names of their parameters."""
        contexts: list[Context] = [session.ctx]
        while contexts[-1].parent is not None:
            contexts.append(contexts[-1].parent)
        common = session.options
        for source in reversed(contexts):
            for parameter in source.command.params:
                name = parameter.name or ""
                origin = source.get_parameter_source(name)
                if origin is None or origin.name != "COMMANDLINE":
                    continue
                value = source.params[name] if name in source.params else getattr(common, name, None)
                yield from self._format(parameter, value)

    def _format(self, parameter: Parameter, value: object) -> Iterator[str]:

        option = parameter.opts[0] if parameter.param_type_name == "option" else ""
        if isinstance(value, bool):
            yield option if value else next(iter(parameter.secondary_opts), f"{option}=false")
            return
        for item in value if isinstance(value, (list, tuple)) else [value]:
            text = str(item) if parameter.type.name == "choice" else self._show(parameter.name or "", item)
            from dbctl.services.events.store import storable_text

            yield storable_text(f"{option}={text}" if option else text)

    def _show(self, name: str, value: object) -> str:
        if isinstance(value, str):
            if name not in _PUBLIC:
                return self._hide(value)
            self._hidden |= {text for text in list_secrets(value) if len(text) >= _SHORTEST}
            return self.mask(redact_text(value))
        return self.mask(str(value))

    def _hide(self, value: str) -> str:
        """Return the mask of a value; the name before ``=`` is no secret."""
        name, separator, secret = value.partition("=")
        secrets: Iterable[str] = (value, secret) if separator else (value,)
        self._hidden |= {text for text in secrets if len(text) >= _SHORTEST}
        is_name = separator and name.replace("_", "").isalnum()
        return f"{name}={MASK}" if is_name else MASK

"""The commands of a module of ``dbctl.cli``, each declared above its function."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Literal, get_args

from typer import Context
from typer.models import CommandInfo

from dbctl.spec import CommandSpec, F, Fleet, Write

#: Sections of the help of dbctl, in its order.
Section = Literal["Set up", "Inspect", "Change", "Back up", "Schema", "Automate"]
SECTIONS: tuple[Section, ...] = get_args(Section)


class Group:
    """A group of commands, or a single command that has no group."""

    def __init__(
        self,
        name: str,
        *,
        section: Section | None = None,
        position: int = 0,
        help: str = "",  # noqa: A002 - as the option
        all_apps: bool = False,
        checks_profile: bool = True,
    ) -> None:
        """Create an empty group; its module has the same name, with ``_`` for each blank.

        ``section``, ``position`` in it and ``help`` are those of the help of dbctl; without a section, the commands of the module
        are included in another group. ``all_apps`` and ``checks_profile`` apply to each of its commands; see ``CommandSpec``.
        """
        self.name, self.section, self.position, self.help = name, section, position, help
        self._all_apps, self._checks_profile = all_apps, checks_profile
        self.infos: list[CommandInfo] = []
        self.specs: list[CommandSpec] = []

    def command(
        self,
        name: str = "",
        *,
        answers: Callable[[], tuple[Any, ...]],
        writes: Write | None = None,
        recorded: bool | None = None,
        findings: bool = False,
        fleet: Fleet | None = None,
    ) -> Callable[[F], F]:
        """Add a function as command ``name`` of this group, or as the command of the group's name; see ``CommandSpec``.

        ``recorded``: by default, a command that writes is recorded.
        """
        spec = CommandSpec(
            name=f"{self.name} {name}".rstrip(),
            answers=answers,
            writes=writes,
            recorded=writes is not None if recorded is None else recorded,
            findings=findings,
            fleet=fleet,
            all_apps=self._all_apps,
            checks_profile=self._checks_profile,
        )

        def declare(function: F) -> F:
            function.spec = spec  # type: ignore[attr-defined]
            # Typer passes a context to the parameter with this annotation.
            function.__annotations__["session"] = Context

            @wraps(function)
            def run(*, session: Context, **arguments: Any) -> Any:
                return function(session=session.find_root().obj, **arguments)

            self.infos.append(CommandInfo(name=name or self.name, callback=run))
            self.specs.append(spec)
            return function

        return declare

    def include(self, other: "Group") -> None:
        """Add the commands of another module."""
        self.infos += other.infos
        self.specs += other.specs

"""``dbctl data toy``: a command that joins a group of dbctl."""

from dbctl.cli._support.emit import emit
from dbctl.cli._support.group import Group
from dbctl.cli._support.session import Session
from dbctl.model import Struct
from dbctl.spec import Example
from dbctl_toy.section import Toy

GROUP = Group("data")


class Greeting(Struct, frozen=True, kw_only=True):
    """The answer."""

    text: str


@Example("data toy")
@GROUP.command("toy", answers=lambda: (Greeting,))
def toy(session: Session) -> int:
    """Print a text."""
    with session.open_app() as app:
        return emit(session, Greeting(text=(app.configured.extension_section("toy", Toy) or Toy()).greeting))

"""``dbctl init``."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.setup.init import Initialised, Setup, has_room
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "init": "Initialised Setup has_room",
        },
    )

"""Where backups are stored, independent of databases."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.stores.base import LARGEST, LAST, NewFolder, State, Store, digest, ordered
    from dbctl.stores.overlay import Beside
    from dbctl.stores.staging import Staging
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "base": "LARGEST LAST NewFolder State Store digest ordered",
            "overlay": "Beside",
            "staging": "Staging",
        },
    )

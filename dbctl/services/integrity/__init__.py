"""Integrity of databases, and consistency between the databases of an app."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.integrity.check import (
        Checked,
        concern,
        failure,
        gathered,
        status_of,
        text_index_damage,
    )
    from dbctl.services.integrity.interrupted_restore import cut_off
    from dbctl.services.integrity.repair import Repaired
    from dbctl.services.integrity.stored_violations import stored_faults
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "check": "Checked concern failure gathered status_of text_index_damage",
            "interrupted_restore": "cut_off",
            "repair": "Repaired",
            "stored_violations": "stored_faults",
        },
    )

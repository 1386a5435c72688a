"""Column types of MySQL and MariaDB, and the values in them."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.mysql.types.columns import (
        KINDS,
        NATIVE,
        TIMES,
        WIDE,
        Kind,
        MySQLColumn,
        MySQLTable,
        charset_of,
        declared,
        fitting,
        kind_of,
        labels,
        storable,
    )
    from dbctl.engines.mysql.types.text_values import of_csv, of_json
    from dbctl.engines.mysql.types.values import PLAIN, literal, stored, translated
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "columns": (
                "KINDS Kind MySQLColumn MySQLTable NATIVE TIMES WIDE charset_of declared fitting kind_of labels "
                "storable"
            ),
            "text_values": "of_csv of_json",
            "values": "PLAIN literal stored translated",
        },
    )

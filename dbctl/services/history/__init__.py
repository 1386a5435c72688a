"""Samples of the sizes, rows, users and figures of databases over time, and their growth."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.history.growth import (
        DEFAULT_PERIOD,
        DatabaseGrowth,
        GrowthHistory,
        TableGrowth,
        TablePoint,
        list_table_points,
        measure_database_growth,
        measure_growth,
        select_evenly,
    )
    from dbctl.services.history.recording import (
        measure_database,
        measure_storage,
        measure_tables,
        record_backup,
    )
    from dbctl.services.history.sums import SampleSum

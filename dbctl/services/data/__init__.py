"""Rows of any table: query, edit, import, export, describe."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.data.bulk import RowAdded, RowsChanged, RowsDeleted, add_row, delete_rows, set_rows
    from dbctl.services.data.content import ContentWritten, read_content
    from dbctl.services.data.csv_jsonl import Form
    from dbctl.services.data.describe import TableDescribed, describe_table
    from dbctl.services.data.edit import RowChanged, RowDeleted, delete_row, set_row
    from dbctl.services.data.import_export import (
        Exported,
        RowsImported,
        export_query,
        export_table,
        import_rows,
    )
    from dbctl.services.data.personal_data import UserDataExported, collect_user_data
    from dbctl.services.data.query import Answered
    from dbctl.services.data.table import Filters
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "bulk": "RowAdded RowsChanged RowsDeleted add_row delete_rows set_rows",
            "content": "ContentWritten read_content",
            "csv_jsonl": "Form",
            "describe": "TableDescribed describe_table",
            "edit": "RowChanged RowDeleted delete_row set_row",
            "import_export": "Exported RowsImported export_query export_table import_rows",
            "personal_data": "UserDataExported collect_user_data",
            "query": "Answered",
            "table": "Filters",
        },
    )

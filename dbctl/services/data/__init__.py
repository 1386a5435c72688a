"""Rows of any table: query, edit, import, export, describe."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.data.bulk import (
        RowAddResult,
        RowsChangeResult,
        RowsDeleteResult,
        add_row,
        delete_rows,
        set_rows,
    )
    from dbctl.services.data.content import ContentWriteResult, read_content
    from dbctl.services.data.csv_jsonl import Form
    from dbctl.services.data.delete import RowDeleteResult, delete_row
    from dbctl.services.data.describe import TableDescription, describe_table
    from dbctl.services.data.edit import RowChangeResult, set_row
    from dbctl.services.data.import_export import (
        ExportResult,
        ImportResult,
        export_query,
        export_table,
        import_rows,
    )
    from dbctl.services.data.personal_data import UserDataExported, collect_user_data
    from dbctl.services.data.query import QueryResult
    from dbctl.services.data.table import Filters
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "bulk": "RowAddResult RowsChangeResult RowsDeleteResult add_row delete_rows set_rows",
            "content": "ContentWriteResult read_content",
            "csv_jsonl": "Form",
            "delete": "RowDeleteResult delete_row",
            "describe": "TableDescription describe_table",
            "edit": "RowChangeResult set_row",
            "import_export": "ExportResult ImportResult export_query export_table import_rows",
            "personal_data": "UserDataExported collect_user_data",
            "query": "QueryResult",
            "table": "Filters",
        },
    )

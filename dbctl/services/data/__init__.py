"""Rows of any table: query, edit, import, export."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.data.add import RowAddResult, add_row
    from dbctl.services.data.content import ContentWriteResult, read_content
    from dbctl.services.data.csv_jsonl import Form
    from dbctl.services.data.delete import RowDeleteResult, RowsDeleteResult, delete_row, delete_rows
    from dbctl.services.data.edit import RowChangeResult, RowsChangeResult, set_row, set_rows
    from dbctl.services.data.export import ExportResult, ExportTarget, export_query, export_table
    from dbctl.services.data.personal_data import UserDataExported, collect_user_data
    from dbctl.services.data.query import QueryResult
    from dbctl.services.data.row_import import ImportResult, RowFile, add_refused_lines, import_rows
    from dbctl.services.data.table import DataTable, Filters, selected_database, sort_by_references

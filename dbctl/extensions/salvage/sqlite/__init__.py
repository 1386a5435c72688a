"""Salvage a damaged SQLite file: read it page by page and write the rows into a new file.

SQLite stops at the first unreadable page. The file format is documented and stable
(https://www.sqlite.org/fileformat2.html), so the other pages can be read.
"""

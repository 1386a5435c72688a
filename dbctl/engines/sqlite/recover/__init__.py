"""What can be read of a damaged SQLite file, page by page, brought into a new one.

SQLite itself stops at the first page that it cannot read. The form of the file is documented and does not change
(https://www.sqlite.org/fileformat2.html), and a page that is damaged does not hide the others.
"""

from dbctl.engines.sqlite.recover.recover import recover

__all__ = ["recover"]

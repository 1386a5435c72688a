"""The operations report as one HTML page that needs no network and no script."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.report_page.page import SIGNATURE, create_page

"""Storage with the S3 protocol."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.stores.s3.store import S3

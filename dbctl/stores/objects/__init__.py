"""Object storage: the S3 protocol, Azure Blob Storage and Google Cloud Storage."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.stores.objects.store import BucketStore

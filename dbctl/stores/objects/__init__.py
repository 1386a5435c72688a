"""Object storage: the S3 protocol, Azure Blob Storage and Google Cloud Storage."""

"""LanceDB: tables with vectors; each table is a folder, in a local folder or in a bucket with the S3 protocol."""

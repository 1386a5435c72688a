"""LanceDB: tables with vectors, each a folder of its own in a folder on this machine or in storage that speaks S3."""

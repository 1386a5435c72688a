"""Administration of LanceDB: checks, sizes, findings, maintenance, vector indexes. Parts of open databases load the modules."""

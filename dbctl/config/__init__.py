"""The configuration: ``dbctl.toml``, access to object storage, and the data files of the package."""

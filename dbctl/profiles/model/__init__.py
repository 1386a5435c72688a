"""The model of a profile: the sections and keys of its TOML file."""

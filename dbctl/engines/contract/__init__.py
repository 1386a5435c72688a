"""The contract between services and engines: protocols and the values that they exchange."""

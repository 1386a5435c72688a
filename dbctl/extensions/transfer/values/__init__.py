"""Values of the source that the destination of a transfer refuses or changes, found before anything is copied."""

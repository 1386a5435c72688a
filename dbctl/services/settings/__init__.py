"""Settings of an app and of its users."""

"""Statistics of an app and of its databases."""

"""Search of an app's content: queries, filters, snippets, indexes."""

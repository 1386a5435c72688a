"""What a live database shows about its app: schema, sampled rows, and what their names and values mean."""

"""The live schema of a database: descriptions of its tables, and a diagram."""

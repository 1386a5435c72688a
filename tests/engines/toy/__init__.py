"""An engine that is one package and one line in ``dbctl.url.ENGINES``: a database is a JSON file with lists of objects."""

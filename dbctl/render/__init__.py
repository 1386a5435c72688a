"""How a result is shown: table, plain columns, JSON envelope, csv, markdown, failure."""

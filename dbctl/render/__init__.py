"""Write results (as table, plain columns, JSON, csv, tsv or markdown) and errors."""

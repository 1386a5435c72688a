"""Database engines, which implement one contract; only they import drivers and quote names in SQL."""

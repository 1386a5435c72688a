"""Schemas and rows in forms that every SQL engine can read: the contract, and what the engines share."""

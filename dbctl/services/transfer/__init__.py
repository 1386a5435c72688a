"""Transfers of databases between engines: plan, run, verify, switch."""

"""Findings about a deployment: files, disk space, servers, users, encryption."""

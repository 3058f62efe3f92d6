"""Clients to copy: each file stands alone and imports nothing of this project."""

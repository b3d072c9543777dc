"""Helpers without dependencies inside the package: atomic files, JSON objects, numbers with units."""

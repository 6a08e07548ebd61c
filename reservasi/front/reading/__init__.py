"""Reads untrusted input into values: JSON bodies, query parameters, headers."""

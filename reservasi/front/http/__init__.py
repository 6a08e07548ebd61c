"""Bytes: connections, request heads, encoded answers, counting."""

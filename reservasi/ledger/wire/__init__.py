"""Encodings that Python shares with the Lua functions: `messages` to and from them, `stored_forms` that they keep."""

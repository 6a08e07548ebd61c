"""Encodings shared with the Lua functions: `messages` for calls and replies, `stored_forms` for stored values."""

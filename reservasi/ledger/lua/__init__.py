"""The Lua function library, one file per command; `library` assembles and loads it."""

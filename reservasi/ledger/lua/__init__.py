"""The Lua function library, one file a command, and how it is put together and loaded (`library`)."""

"""Request handlers: one function per operation."""

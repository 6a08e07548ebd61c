"""The policy of claims and joins, decided once, and the context of all handlers."""

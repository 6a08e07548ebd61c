"""The ledger decides: who has which place is judged by one Lua function library in Redis or Valkey, in batches.

`library` loads it, `wire` speaks its encoding, `connection` reaches it, `group_commit` gathers concurrent commands
into one call, `journal` reads what was accepted, `recorded` follows what PostgreSQL has.
"""

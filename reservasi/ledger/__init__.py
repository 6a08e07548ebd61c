"""The ledger decides: who has which place is judged by one Lua function library in Redis or Valkey, in batches.

`lua` is that library, `wire` speaks its encoding, `topology` finds its servers, `connection` reaches them, and
`journal` reads what was accepted. `command_queue`, `group_commit` and `answer_release` gather concurrent commands into
one call.
"""

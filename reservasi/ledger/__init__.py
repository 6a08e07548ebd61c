"""The ledger: one Lua function library in Redis or Valkey decides in batches who gets which place.

`lua` is the library, `wire` its encoding, `topology` finds its servers, `connection` calls it, and `journal` reads what
it accepted. `command_queue`, `group_commit` and `answer_release` combine concurrent commands into one call.
"""

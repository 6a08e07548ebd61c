-- snapshot: every quota and opening at one seq, from which a follower of the journal starts.
--
-- Item: {whole}
--   whole   1 includes the indexes, for comparisons
-- Outcomes, in order of precedence:
--   snapshot   + chain, {quota, packed, ...}, {quota, packed facts, ...}, {timer, ...}, {opening, packed, ...}, {key, ...}
-- A whole one also has {due quota, time, ...}, {number, quota, ...}, {tombstone, time, ...}.
-- The keys are those with a wrong type, by their names in shared.lua: they are treated as empty.
-- Example: {0}
--   -> {'snapshot', 1, '3f...', {'p.o.s.20261201.0800.online', '...'}, {'p.o.s.20261201.0800.online', '...'}, {}, {}, {}}

-- A key of another type is treated as empty, and named.
local function unless_damaged(damaged_keys, name, found)
  if found.err then
    damaged_keys[#damaged_keys + 1] = name
    return {}
  end
  return found
end

local function snapshot(call, item)
  local key, damaged_keys = call.key, {}
  local quotas = unless_damaged(damaged_keys, 'quotas', redis.pcall('HGETALL', key.quotas))
  local facts = unless_damaged(damaged_keys, 'facts', redis.pcall('HGETALL', key.facts))
  local timers = unless_damaged(damaged_keys, 'timers', redis.pcall('ZRANGE', key.timers, '0', '-1'))
  local openings = unless_damaged(damaged_keys, 'openings', redis.pcall('HGETALL', key.openings))
  local due, names, tombstones
  if item[1] == 1 then
    due = unless_damaged(damaged_keys, 'due', redis.pcall('ZRANGE', key.due, '0', '-1', 'WITHSCORES'))
    names = unless_damaged(damaged_keys, 'names', redis.pcall('HGETALL', key.names))
    tombstones = redis.pcall('ZRANGE', key.tombstones, '0', '-1', 'WITHSCORES')
    tombstones = unless_damaged(damaged_keys, 'tombstones', tombstones)
  end
  return {
    'snapshot', call.seq, call.chain, quotas, facts, timers, openings, damaged_keys, due, names, tombstones,
  }
end

register('snapshot', one_by_one(snapshot), { 'no-writes' })

-- snapshot: every quota and opening at one seq; what a follower of the journal starts from.
--
-- Item: {}
-- Outcomes, in order of precedence:
--   snapshot   + chain, {quota, packed, ...}, {quota, packed facts, ...}, {timer, ...}, {opening, packed, ...}
-- Example: {}
--   -> {'snapshot', 1, '3f...', {'p.o.s.20261201.0800.online', '...'}, {'p.o.s.20261201.0800.online', '...'}, {}, {}}

local function snapshot(call)
  local quotas, facts = redis.call('HGETALL', call.key.quotas), redis.call('HGETALL', call.key.facts)
  local timers, openings = redis.call('ZRANGE', call.key.timers, '0', '-1'), redis.call('HGETALL', call.key.openings)
  return { 'snapshot', call.seq, call.chain, quotas, facts, timers, openings }
end

register('snapshot', one_by_one(snapshot), { 'no-writes' })

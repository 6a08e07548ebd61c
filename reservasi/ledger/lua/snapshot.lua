-- snapshot: every quota at one seq; what a follower of the journal starts from.
--
-- Item: {}
-- Outcomes, in order of precedence:
--   snapshot   + chain, {quota, packed record, ...}, {quota, packed facts, ...}, {timer, ...}
-- Example: {}
--   -> {'snapshot', 1, '3f...', {'p.o.s.20261201.0800.online', '...'}, {'p.o.s.20261201.0800.online', '...'}, {}}

local function snapshot(call)
  local quotas, facts = redis.call('HGETALL', call.key.quotas), redis.call('HGETALL', call.key.facts)
  return { 'snapshot', call.seq, call.chain, quotas, facts, redis.call('ZRANGE', call.key.timers, '0', '-1') }
end

register('snapshot', snapshot, nil, { 'no-writes' })

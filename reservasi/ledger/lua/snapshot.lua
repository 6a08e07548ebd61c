-- snapshot: every quota at one seq; what a follower of the journal starts from.
--
-- Item: {}
-- Outcomes, in order of precedence:
--   snapshot   + chain, {quota, packed record, ...}, {quota, packed facts, ...}
-- Example: {}
--   -> {'snapshot', 1, '3f...', {'p.o.s.20261201.0800.online', '...'}, {'p.o.s.20261201.0800.online', '...'}}

local function snapshot(call)
  return {
    'snapshot', call.seq, call.chain, redis.call('HGETALL', call.key.quotas), redis.call('HGETALL', call.key.facts),
  }
end

register('snapshot', snapshot, nil, { 'no-writes' })

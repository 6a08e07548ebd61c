-- snapshot: every quota at one seq; what a follower of the journal starts from.
--
-- Item: {}
-- Outcomes, in order of precedence:
--   snapshot   + chain, {quota, packed record, ...}, {quota, packed facts, ...}, {quota, {timer, time, ...}, ...}
-- Example: {}
--   -> {'snapshot', 1, '3f...', {'p.o.s.20261201.0800.online', '...'}, {'p.o.s.20261201.0800.online', '...'}, {}}

local function all_timers(call)
  local timers = {}
  for _, quota_id in ipairs(redis.call('ZRANGE', call.key.due, '0', '-1')) do
    timers[#timers + 1] = quota_id
    timers[#timers + 1] = redis.call('ZRANGE', call.key.timers .. quota_id, '0', '-1', 'WITHSCORES')
  end
  return timers
end

local function snapshot(call)
  local quotas, facts = redis.call('HGETALL', call.key.quotas), redis.call('HGETALL', call.key.facts)
  return { 'snapshot', call.seq, call.chain, quotas, facts, all_timers(call) }
end

register('snapshot', snapshot, nil, { 'no-writes' })

-- touch: write something, so that a WAIT behind it covers all that was written before it, by whichever connection.
--
-- Item: {}
-- Outcomes, in order of precedence:
--   touched   + how often so far
-- Example: {} -> {'touched', 0, 1}

local function touch(call)
  return { 'touched', call.seq, redis.call('HINCRBY', call.key.meta, 'touched', '1') }
end

register('touch', one_by_one(touch), { 'allow-oom' })

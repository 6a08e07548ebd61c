-- touch: write something, so that a WAIT behind it covers all that was written before it, by whichever connection.
--
-- Item: {}
-- Outcomes, in order of precedence:
--   touched   + how often so far
-- Example: {} -> {'touched', 0, 1}

local function touch(call)
  local count = redis.pcall('HINCRBY', call.key.meta, 'touched', '1')
  if type(count) == 'table' then -- no number, though nothing rests on it but that something is written
    redis.call('HSET', call.key.meta, 'touched', '1')
    count = 1
  end
  return { 'touched', call.seq, count }
end

register('touch', one_by_one(touch), { 'allow-oom' })

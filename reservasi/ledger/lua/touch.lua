-- touch: write something, so that a following WAIT covers everything written before it, by any connection.
--
-- Item: {}
-- Outcomes, in order of precedence:
--   touched   + how often so far
-- Example: {} -> {'touched', 0, 1}

local function touch(call)
  local count = redis.pcall('HINCRBY', call.key.meta, 'touched', '1')
  if type(count) == 'table' then -- not a number; only the write itself matters
    redis.call('HSET', call.key.meta, 'touched', '1')
    count = 1
  end
  return { 'touched', call.seq, count }
end

register('touch', one_by_one(touch), { 'allow-oom' })

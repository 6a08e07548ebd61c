-- sweep: expire holds, return places, forget old tombstones; bounded, and never needed for correctness.
--
-- Item: {items_max, tombstone_ms}
-- Outcomes, in order of precedence:
--   swept   + expired holds, returned places' timers, forgotten tombstones
-- Example: {500, 86400000} -> {'swept', 11, 3, 1, 0}

local function forget_tombstones(call, most, tombstone_ms)
  local before = #call.forgotten -- by earlier items of this batch, not written yet
  local ids = redis.call(
    'ZRANGEBYSCORE', call.key.tombstones, '-inf', integer(call.now - tombstone_ms),
    'LIMIT', integer(before), integer(most)
  )
  for _, id in ipairs(ids) do
    call.forgotten[#call.forgotten + 1] = id
    local number = string.match(id, '^=(%d+)$') -- of a retired quota, to which nothing refers any more
    if number then
      call.names[number], call.changed_names[number] = false, true
    end
  end
  return #ids
end

local function sweep(call, item)
  local items_max, tombstone_ms = item[1], item[2]
  local expired, returned = 0, 0
  local quotas = redis.call(
    'ZRANGEBYSCORE', call.key.due, '-inf', integer(call.now), 'LIMIT', '0', integer(items_max)
  )
  for _, quota_id in ipairs(quotas) do
    local budget = items_max - expired - returned
    if budget <= 0 then
      break
    end
    local quota_expired, quota_returned = run_timers(call, quota_id, budget)
    expired, returned = expired + quota_expired, returned + quota_returned
  end
  return { 'swept', call.seq, expired, returned, forget_tombstones(call, items_max, tombstone_ms) }
end

register('sweep', one_by_one(sweep), { 'allow-oom' })

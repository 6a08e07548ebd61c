-- sweep: expire holds, return places, drop old tombstones; bounded, and never needed for correctness.
--
-- Item: {items_max, tombstone_ms}
-- Outcomes, in order of precedence:
--   swept   + expired holds, returned places' timers, dropped tombstones
-- Example: {500, 86400000} -> {'swept', 11, 3, 1, 0}

-- Whether a tombstone names a live reservation: then it is damaged, and only the tombstone is dropped.
local function is_in_use(call, reservation, number)
  local quota_id = number and name_of(call, number)
  return (reservation and (reservation[R.state] == HELD or reservation[R.state] == CONFIRMED))
    or (quota_id and (get_quota(call, quota_id) or call.damaged[quota_id]))
end

local function forget_tombstones(call, most, tombstone_ms)
  local before = #call.forgotten + #call.untombed -- by earlier items of this batch, not written yet
  local ids = redis.call(
    'ZRANGEBYSCORE', call.key.tombstones, '-inf', integer(call.now - tombstone_ms),
    'LIMIT', integer(before), integer(most)
  )
  preload(call.reservations, call.key.reservations, ids)
  for _, id in ipairs(ids) do
    local reservation = get_reservation(call, id)
    local number = string.match(id, '^=(%d+)$') -- of a retired quota, to which nothing refers
    if is_in_use(call, reservation, number) then
      call.untombed[#call.untombed + 1] = id
    else
      call.forgotten[#call.forgotten + 1] = id
      if number then
        call.names[number], call.changed_names[number] = false, true
      end
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

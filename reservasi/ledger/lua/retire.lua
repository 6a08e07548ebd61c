-- retire: remove a quota whose window is over from the ledger; its confirmed reservations end as retired.
--
-- Item: {quota, ends_at, ids}
--   ends_at   the end of its window; the caller knows the program's time zone, the ledger does not
--   ids       {reservation_id, ...}: confirmed reservations of the quota to end in this call
-- Outcomes, in order of precedence:
--   unknown_quota  no such quota; or it is already retired
--   not_over       closes_at or ends_at lies ahead, or ends_at is before the window can end anywhere on Earth
--   retiring       places are held, confirmed or returning: + reservations ended, places that remain
--   retired        gone: + reservations ended
-- Example: {'p.o.s.20261201.0800.online', 1604196000000, {'abcd...'}} -> {'retired', 5, 1}

local DAY_MS, MINUTE_MS = 86400000, 60000
local EAST_MS = 14 * 3600000 -- the zone in which a day begins first (UTC+14)

-- Days from 1970-01-01 to a date of the Gregorian calendar.
local function days_to(year, month, day)
  if month <= 2 then
    year, month = year - 1, month + 12
  end
  local leaps = math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
  return 365 * year + leaps + math.floor((153 * (month - 3) + 2) / 5) + day - 719469
end

-- The earliest moment at which a window can end; nil if its facts have no date. "24:00", and an end that is not after
-- the start, are on the next day.
local function earliest_end(facts)
  local year, month, day = string.match(facts[4], '^(%d%d%d%d)%-(%d%d)%-(%d%d)$')
  local hour, minute = string.match(facts[6], '^(%d%d):(%d%d)$')
  if not year or not hour then
    return nil
  end
  local days = days_to(tonumber(year), tonumber(month), tonumber(day)) + (facts[6] <= facts[5] and 1 or 0)
  return days * DAY_MS + (tonumber(hour) * 60 + tonumber(minute)) * MINUTE_MS - EAST_MS
end

local function is_over(call, id, quota, ends_at)
  local earliest = earliest_end(get_facts(call, id))
  local closes_at = quota[Q.terms][T.closes_at]
  return earliest and ends_at >= earliest and ends_at <= call.now and closes_at <= call.now
end

-- How many of them ended: others may have been cancelled meanwhile, or belong to another quota.
local function end_confirmed(call, id, quota, ids)
  local ended = 0
  for _, reservation_id in ipairs(ids) do
    local reservation = get_reservation(call, reservation_id)
    local is_of_quota = reservation and reservation[R.state] == CONFIRMED and reservation[R.number] == quota[Q.number]
    if is_of_quota and is_sound(call, reservation_id, reservation) then -- a damaged one stays until it is repaired
      local places = places_of(reservation)
      quota[Q.confirmed] = less(quota[Q.confirmed], places)
      bury(call, reservation_id, reservation, RETIRED, id, places, 0)
      ended = ended + 1
    end
  end
  return ended
end

-- Its name is kept as long as a tombstone refers to it.
local function forget_quota(call, id, quota)
  local stored = quota[Q.stored]
  if kept[stored] == quota then -- a rebuilt ledger may store the same text of another quota
    kept[stored], kept_count = nil, kept_count - 1
  end
  call.quotas[id], call.changed_quotas[id] = false, true
  call.facts[id], call.changed_facts[id] = false, true
  call.due_changed[id] = true
  call.entombed[#call.entombed + 1] = integer(call.now + 1)
  call.entombed[#call.entombed + 1] = '=' .. integer(quota[Q.number])
end

local function retire(call, item)
  local id, ends_at, ids = item[1], item[2], item[3]
  local quota = get_quota(call, id)
  if call.damaged[id] or (quota and not get_facts(call, id)) or (not quota and get_facts(call, id)) then
    return damaged(call, id)
  end
  if not quota then
    return { 'unknown_quota', call.seq }
  end
  if not is_over(call, id, quota, ends_at) then
    return { 'not_over', call.seq }
  end
  run_timers(call, id, TIMERS_MAX)
  local ended = end_confirmed(call, id, quota, ids)
  local taken = quota[Q.held] + quota[Q.confirmed] + quota[Q.returning]
  if taken > 0 then
    return { 'retiring', call.seq, ended, taken }
  end
  forget_quota(call, id, quota)
  return { 'retired', record(call, { 't', id }), ended }
end

local function prepare(call)
  local quotas, reservations = {}, {}
  for index, item in ipairs(call.items) do
    quotas[index] = item[1]
    for _, id in ipairs(item[3]) do
      reservations[#reservations + 1] = id
    end
  end
  quotas = distinct(quotas)
  preload_quotas(call, quotas)
  preload(call.facts, call.key.facts, quotas)
  preload(call.reservations, call.key.reservations, distinct(reservations))
end

register('retire', one_by_one(retire, prepare), { 'allow-oom' })

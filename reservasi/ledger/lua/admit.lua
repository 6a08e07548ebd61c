-- admit: move an opening's mark to the number that rate and time give. One controller leads; after its lease any other.
--
-- Item: {opening, controller, lease_ms, rate}
--   lease_ms  another controller may lead if this one has not called for so long
--   rate      numbers per minute from now on, if the terms let it adapt and staff have not fixed it; 0: unchanged
-- Outcomes, in order of precedence:
--   unknown_opening   no such opening
--   no_waiting_room   it has none
--   closed            it has ended, and is drawn if nobody had done so; or it was cancelled
--   not_leading       another controller leads
--   advanced          drawn once it has opened, moved unless paused: + -1, joined, arrived, admitted_through, rate
-- Example: {'p-1', 'c...', 1500, 0} -> {'advanced', 1, -1, 0, 0, 0, 600}

local LEASE_MAX_MS = 60000
local CATCH_UP_MAX_MS = 10000 -- after a longer pause of the controllers, not everybody is admitted at once
local MINUTE_MS = 60000

-- A lease that ends later than possible was given by a clock that has been set back since.
local function leads(call, opening, controller, lease_ms)
  local left = opening[O.lease_until] - call.now
  if opening[O.leader] ~= controller and left > 0 and left <= LEASE_MAX_MS then
    return false
  end
  opening[O.leader], opening[O.lease_until] = controller, call.now + math.min(lease_ms, LEASE_MAX_MS)
  return true
end

-- The rest of a step is kept as time that has not been counted yet.
local function advance(call, opening)
  local from = math.max(math.min(opening[O.advanced_at], call.now), call.now - CATCH_UP_MAX_MS)
  local rate, mark, last = opening[O.rate], opening[O.admitted_through], opening[O.arrived]
  local steps = opening[O.paused] == 1 and 0 or math.floor((call.now - from) * rate / MINUTE_MS)
  opening[O.admitted_through] = math.max(mark, math.min(mark + steps, last))
  if opening[O.paused] == 1 or mark + steps >= last then
    opening[O.advanced_at] = call.now
  else
    opening[O.advanced_at] = from + math.floor(steps * MINUTE_MS / rate + 0.5)
  end
end

local function adapt(opening, rate)
  if rate > 0 and opening[O.terms][OT.adaptive] == 1 and opening[O.rate_fixed] ~= 1 then
    opening[O.rate] = math.min(rate, opening[O.terms][OT.rate_max])
  end
end

local function move_on(call, id, opening, rate)
  local has_opened = draw_when_open(call, id, opening)
  local before = { unpack(opening, O.joined, O.rate) }
  opening[O.arrived] = count_people(call, id, opening)
  if has_opened then
    advance(call, opening)
  else
    opening[O.joined] = opening[O.arrived]
  end
  adapt(opening, rate)
  if not same(before, { unpack(opening, O.joined, O.rate) }, #before) then
    record_opening(call, id, opening)
  end
end

local function admit(call, item)
  local id, controller, lease_ms, rate = item[1], item[2], item[3], item[4]
  local opening = get_opening(call, id)
  if call.damaged[id] then
    return damaged(call, id)
  end
  if not opening then
    return { 'unknown_opening', call.seq }
  end
  if opening[O.terms][OT.waiting_room] ~= 1 then
    return { 'no_waiting_room', call.seq }
  end
  if opening[O.cancelled] == 1 then
    return { 'closed', call.seq }
  end
  if has_ended(call, opening) then
    draw_when_open(call, id, opening)
    return { 'closed', call.seq }
  end
  if not leads(call, opening, controller, lease_ms) then
    return { 'not_leading', call.seq }
  end
  move_on(call, id, opening, rate)
  call.changed_openings[id] = true
  return describe_opening(call, 'advanced', opening, -1)
end

register('admit', one_by_one(admit), { 'allow-oom' })

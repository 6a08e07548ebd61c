-- Timers and the end of reservations: holds expire, places return.

-- The text of a timer: its quota's number in six hexadecimal digits, its time in eleven (until the year 2527), and its
-- purpose: a reservation id, or "+<seq>:<places>". In the order of such texts, those of one quota are adjacent, the
-- earliest first, and the text of a hold's timer can be computed from its record.
local last_at, last_time -- most of a batch end at the same moment

local function timer_of(quota, at, what)
  if last_at ~= at then
    last_at, last_time = at, string.format('%011x', at)
  end
  return quota[Q.digits] .. last_time .. what
end

local function set_timer(call, quota_id, quota, at, what)
  local added = call.timers_added
  local count = #added
  added[count + 1], added[count + 2] = '0', timer_of(quota, at, what)
  if quota[Q.due] == 0 or at < quota[Q.due] then
    set_due(quota, at)
    call.due_changed[quota_id] = true
  end
end

local function stop_timer(call, quota, at, what)
  call.timers_removed[#call.timers_removed + 1] = timer_of(quota, at, what)
end

-- Whether a quota has no timers although places are held: all of them were lost.
local function has_lost_timers(call, quota)
  local digits = quota[Q.digits]
  return #redis.call('ZRANGEBYLEX', call.key.timers, '[' .. digits, '(' .. digits .. 'g', 'LIMIT', '0', '1') == 0
end

-- Whether other stored values agree with a reservation's record: the persons of a live one refer to it and its quota
-- exists; those of an ended one do not. The record alone is not enough: one changed bit may name another quota.
local function is_sound(call, id, reservation)
  local quota_id, state = quota_id_of(call, reservation), reservation[R.state]
  local is_live = state == HELD or state == CONFIRMED
  if not quota_id then
    return false
  end
  for at = R.first_person, #reservation do
    if (get_live_id(call, reservation[at]) == id) ~= is_live then
      return false
    end
  end
  return not is_live or (get_quota(call, quota_id) and true or false)
end

local function has_person(reservation, person)
  for at = R.first_person, #reservation do
    if reservation[at] == person then
      return true
    end
  end
  return false
end

-- Whether a hold's timer is stored: it has quota, deadline and reservation, which proves that none was changed.
local function has_timer(call, id, reservation)
  local quota = get_quota(call, quota_id_of(call, reservation))
  return redis.call('ZSCORE', call.key.timers, timer_of(quota, reservation[R.deadline], id)) and true
    or has_lost_timers(call, quota)
end

-- Whether a command on this reservation cannot be decided because its stored data is damaged.
local function is_damaged(call, id)
  local reservation = get_reservation(call, id)
  if not reservation then
    return call.damaged[id]
  end
  return not is_sound(call, id, reservation) or (reservation[R.state] == HELD and not has_timer(call, id, reservation))
end

-- When a returned place can be claimed again; 0 = at once. The delay is derived from the chain, which nobody outside can
-- know beforehand: a place that returns at a predictable moment would go to touts.
local function give_back(call, quota_id, quota, places)
  local terms = quota[Q.terms]
  if terms[T.return_max] <= 0 then
    return 0
  end
  local draw = tonumber(string.sub(redis.sha1hex(call.chain .. ':' .. integer(call.seq)), 1, 12), 16) / 2 ^ 48
  local at = call.now + terms[T.return_min]
    + math.floor(draw * (terms[T.return_max] - terms[T.return_min] + 1))
  quota[Q.returning] = quota[Q.returning] + places
  set_timer(call, quota_id, quota, at, '+' .. integer(call.seq + 1) .. ':' .. integer(places))
  return at
end

-- Frees the persons of a live reservation that ends, and leaves a tombstone for replays.
local function bury(call, id, reservation, state, quota_id, places, returns_at, by)
  for index = R.first_person, #reservation do
    call.persons[reservation[index]] = false
    call.changed_persons[reservation[index]] = true
  end
  reservation[R.state] = state
  reservation[R.later] = record(call, { 'e', state, id, quota_id, places, returns_at, by })
    - reservation[R.held_seq]
  call.changed_quotas[quota_id] = true
  call.changed_reservations[id] = true
  call.entombed[#call.entombed + 1] = integer(call.now)
  call.entombed[#call.entombed + 1] = id
end

-- A count minus some places, at least 0.
local function less(count, places)
  assert(count >= places, 'damaged: fewer places are counted than end')
  return count - places
end

-- Ends a live reservation and returns its places.
local function end_reservation(call, id, reservation, state, by)
  local quota_id = quota_id_of(call, reservation)
  local quota = get_quota(call, quota_id)
  local places, remained = places_of(reservation), remaining_of(quota)
  if reservation[R.state] == HELD then
    quota[Q.held] = less(quota[Q.held], places)
    stop_timer(call, quota, reservation[R.deadline], id)
  else
    quota[Q.confirmed] = less(quota[Q.confirmed], places)
  end
  local returns_at = give_back(call, quota_id, quota, places)
  if returns_at == 0 and remained < FEW then
    note_freed(call, quota_id)
  end
  bury(call, id, reservation, state, quota_id, places, returns_at, by)
end

-- When a hold ends: at its deadline, or when its quota closes for booking, if staff have moved that before the deadline.
local function hold_end_of(call, reservation)
  local deadline = reservation[R.deadline]
  local closes_at = get_quota(call, quota_id_of(call, reservation))[Q.terms][T.closes_at]
  return closes_at > 0 and closes_at < deadline and closes_at or deadline
end

local function is_overdue(call, reservation)
  return reservation[R.state] == HELD
    and (reservation[R.deadline] <= call.now or hold_end_of(call, reservation) <= call.now)
end

-- Whether a quota's closing time has passed; not whether staff have closed it, which does not affect holds.
local function has_closed(call, quota)
  local closes_at = quota[Q.terms][T.closes_at]
  return closes_at > 0 and closes_at <= call.now
end

-- When a quota must be checked, if its earliest timer runs at `first`: holds also end with its closing.
local function due_with_closing(quota, first)
  local closes_at = quota[Q.terms][T.closes_at]
  return quota[Q.held] > 0 and closes_at > 0 and closes_at < first and closes_at or first
end

-- After a change of its closing time, or of its number of holds by anything but a claim.
local function note_closing(call, quota_id, quota)
  local due = due_with_closing(quota, quota[Q.due])
  if due < quota[Q.due] then
    set_due(quota, due)
    call.due_changed[quota_id] = true
  end
end

-- The purpose of a due timer: "return", "expire", "nothing" if already done, or "damaged" if unknown.
local function due_of(call, quota, member, id, places)
  if places then
    return places > 0 and places <= quota[Q.returning] and 'return' or 'damaged'
  end
  local reservation = get_reservation(call, id)
  if not reservation then
    return call.damaged[id] and 'damaged' or 'nothing'
  end
  if reservation[R.state] ~= HELD then -- it may have ended earlier in this batch
    return 'nothing'
  end
  if timer_of(quota, reservation[R.deadline], id) ~= member or reservation[R.number] ~= quota[Q.number]
    or places_of(reservation) > quota[Q.held] or not is_sound(call, id, reservation) then
    return 'damaged'
  end
  return is_overdue(call, reservation) and 'expire' or 'nothing'
end

-- Expires the due holds and returns the due places of one quota, at most `most`. Returns both counts.
-- Timers that ran earlier in this call are still stored, since nothing is written before the end: they come first
-- and are skipped, or a place would return twice. If the quota has closed, all of its holds are due. Damaged
-- data is not changed, and its places stay taken.
local function run_timers(call, quota_id, most)
  local expired, returned = 0, 0
  local already = call.timers_run[quota_id] or 0
  local quota = get_quota(call, quota_id)
  if not quota then
    if not call.damaged[quota_id] then -- `due` names an unknown quota
      call.timers_run[quota_id] = already
    end
    return expired, returned
  end
  call.timers_run[quota_id] = already
  local due_before = timer_of(quota, call.now + 1, '')
  local last = quota[Q.held] > 0 and has_closed(call, quota) and quota[Q.digits] .. 'g' or due_before
  local members = redis.call(
    'ZRANGEBYLEX', call.key.timers, '[' .. timer_of(quota, 0, ''), '(' .. last, 'LIMIT', integer(already), integer(most)
  )
  call.timers_run[quota_id] = already + #members
  for _, member in ipairs(members) do
    local id = string.sub(member, TIMER_HEAD + 1)
    local places = tonumber(string.match(id, '^%+%d+:(%d+)$'))
    local due = (not places or member < due_before) and due_of(call, quota, member, id, places)
    if due and due ~= 'damaged' then
      call.timers_removed[#call.timers_removed + 1] = member -- whatever its purpose, its time has passed
    end
    if due == 'return' then
      if remaining_of(quota) < FEW then
        note_freed(call, quota_id)
      end
      quota[Q.returning] = quota[Q.returning] - places
      call.changed_quotas[quota_id] = true
      record(call, { 'r', quota_id, places })
      returned = returned + 1
    elseif due == 'expire' then
      end_reservation(call, id, get_reservation(call, id), EXPIRED)
      expired = expired + 1
    end
  end
  return expired, returned
end

-- The answer that describes a reservation.
local function describe(call, outcome, seq, reservation, state)
  return {
    outcome, seq, state or reservation[R.state], quota_id_of(call, reservation), places_of(reservation),
    reservation[R.deadline],
  }
end

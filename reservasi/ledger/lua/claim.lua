-- claim: atomically try to take one place for each person, all or nothing.
--
-- Item: {reservation_id, quota, fingerprint, sealed, {person, ...}}
-- Outcomes, in order of precedence:
--   exists_with_different_content  the id is known, and was used for another request
--   exists          the id is known: the first answer again, whatever became of the reservation since + freed_at
--   unknown_quota   no such quota
--   closed          closed by staff, or its closing time has passed
--   not_open        the opening lies ahead: + opens_at
--   duplicate_applicant  one of the persons has a live reservation in the program, or comes twice in the item
--   sold_out        fewer places remain than persons: + remaining
--   held            the places are taken until the deadline + freed_at
-- `freed_at` is there for FREED_SAID_MS after places came free in the quota (shared.lua says what for).
-- Example: {'abcd...', 'p.o.s.20261201.0800.online', 'f...', 'k1.x...', {'a...'}}
--   -> {'held', 2, 'h', 'p.o.s.20261201.0800.online', 1, 1796000000000, 1795999400000}

local function prepare_claims(call)
  local reservations, quotas, persons = {}, {}, {}
  for index, item in ipairs(call.items) do
    local of_item = item[5]
    reservations[index], quotas[index] = item[1], item[2]
    for at = 1, #of_item do
      persons[#persons + 1] = of_item[at]
    end
  end
  preload(call.reservations, call.key.reservations, reservations)
  preload(call.quotas, call.key.quotas, distinct(quotas))
  preload(call.persons, call.key.persons, persons)
end

local function has_live_reservation(call, person)
  local id = get_live_id(call, person)
  if not id then
    return false
  end
  local reservation = get_reservation(call, id)
  if is_overdue(call, reservation) then
    end_reservation(call, id, reservation, EXPIRED)
    return false
  end
  return true
end

local function any_duplicate(call, persons)
  if #persons == 1 then
    return has_live_reservation(call, persons[1])
  end
  local seen = {}
  for _, person in ipairs(persons) do
    if seen[person] or has_live_reservation(call, person) then
      return true
    end
    seen[person] = true
  end
  return false
end

-- Timers are run only where places lack: a claim that finds room need not wait for others' deadlines.
local function has_room(call, quota_id, quota, places)
  local room = remaining_of(quota)
  if room < places and quota[Q.due] > 0 and quota[Q.due] <= call.now and not call.timers_run[quota_id] then
    run_timers(call, quota_id, TIMERS_MAX)
    room = remaining_of(quota)
  end
  return room >= places
end

local function pack_persons(persons)
  local packed = TEXT[#persons[1]] .. persons[1]
  for index = 2, #persons do
    packed = packed .. TEXT[#persons[index]] .. persons[index]
  end
  return packed
end

local function hold(call, id, quota_id, quota, fingerprint, sealed, persons)
  local places, deadline = #persons, call.now + quota[Q.terms][T.hold]
  local packed_deadline, packed_persons = pack_time(deadline), pack_persons(persons)
  local packed_fingerprint = TEXT[#fingerprint] .. fingerprint
  -- {'h', id, quota_id, deadline, fingerprint, sha1hex(sealed), persons}: the journal chains the envelope's hash, and
  -- carries the envelope beside: it can be erased, and the chain still holds.
  local seq = record(
    call, '\151\161h' .. TEXT[#id] .. id .. TEXT[#quota_id] .. quota_id .. packed_deadline .. packed_fingerprint
      .. '\217\40' .. redis.sha1hex(sealed) .. ARRAY[places] .. packed_persons
  )
  call.envelopes[#call.envelopes + 1] = sealed
  -- {HELD, number, fingerprint, deadline, seq, 0, '', person, ...}, as R says
  local packed = ARRAY[7 + places] .. '\161h' .. quota[Q.packed_number] .. packed_fingerprint .. packed_deadline
    .. cmsgpack.pack(seq) .. '\0\160' .. packed_persons
  local held = call.held_persons
  for index = 1, places do
    local person, count = persons[index], #held
    call.persons[person] = id
    held[count + 1], held[count + 2] = person, id
  end
  call.reservations[id] = packed
  held = call.held_reservations
  local count = #held
  held[count + 1], held[count + 2] = id, packed
  quota[Q.held] = quota[Q.held] + places
  call.changed_quotas[quota_id] = true
  call.names[quota[Q.number]] = quota_id
  set_timer(call, quota_id, quota, deadline, id)
  return seq, deadline
end

local function judge(call, item)
  local id, quota_id, fingerprint, sealed, persons = item[1], item[2], item[3], item[4], item[5]
  local known = get_reservation(call, id)
  if known and known[R.fingerprint] ~= fingerprint then
    return { 'exists_with_different_content', call.seq }
  end
  if known then
    return describe(call, 'exists', known[R.held_seq], known, HELD)
  end
  local quota = get_quota(call, quota_id)
  if not quota then
    return { 'unknown_quota', call.seq }
  end
  local terms = quota[Q.terms]
  if terms[T.closed] == 1 or (terms[T.closes_at] > 0 and terms[T.closes_at] <= call.now) then
    return { 'closed', call.seq }
  end
  if terms[T.opens_at] > call.now then
    return { 'not_open', call.seq, terms[T.opens_at] }
  end
  if any_duplicate(call, persons) then
    return { 'duplicate_applicant', call.seq }
  end
  if not has_room(call, quota_id, quota, #persons) then
    return { 'sold_out', call.seq, remaining_of(quota) }
  end
  local seq, deadline = hold(call, id, quota_id, quota, fingerprint, sealed, persons)
  return { 'held', seq, HELD, quota_id, #persons, deadline }
end

local function claim(call, item)
  local answer = judge(call, item)
  return answer[4] and say_freed(call, answer) or answer -- who has places is told in which quota
end

register('claim', claim, prepare_claims)

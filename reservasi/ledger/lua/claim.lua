-- claim: take one place for each person, atomically: all or none.
--
-- Items: {ids, quotas, quota_of, fingerprints, envelope_hashes, places, persons}
--   One array per field, which is cheaper than one per claim. Each has one value per claim, except
--   `quotas`, which has each quota once (`quota_of` is its index), and `persons`, one per place, in the order of claims.
-- Outcomes, in order of precedence:
--   exists_with_different_content  the id was used for another request
--   exists          the id was used for this request: the first answer again, whatever its state now + freed_at
--   unknown_quota   no such quota
--   closed          closed by staff, or its closing time has passed
--   not_open        the opening lies ahead: + opens_at
--   duplicate_applicant  a person has a live reservation in the program, or is twice in the item: + which, from 1
--   sold_out        fewer places remain than persons: + remaining
--   held            the places are taken until the deadline, which is never after the quota's closing time + freed_at
-- `freed_at` is included for FREED_SAID_MS after places were freed in the quota (see shared.lua).
-- If no place was freed lately, the answer of a held claim is its seq alone; its deadline is in `deadlines`.
-- Example: {{'abcd...'}, {'p.o.s.20261201.0800.online'}, {1}, {'f...'}, {'e...'}, {1}, {'a...'}}
--   -> {'held', 2, 'h', 'p.o.s.20261201.0800.online', 1, 1796000000000, 1795999400000}

local FIELDS = 7

local DAMAGED = 'damaged'

-- `at` if the person has a live reservation; DAMAGED if its record is another person's or cannot be read.
local function has_live_reservation(call, person, at)
  local id = get_live_id(call, person)
  if not id then
    return false
  end
  local reservation = get_reservation(call, id)
  if not reservation or not is_sound(call, id, reservation) or not has_person(reservation, person) then
    return DAMAGED
  end
  if not is_overdue(call, reservation) then
    return at
  end
  if not has_timer(call, id, reservation) then
    return DAMAGED
  end
  end_reservation(call, id, reservation, EXPIRED)
  return false
end

-- The index, from 1, of a person with a live reservation; DAMAGED as above.
local function find_duplicate(call, persons, first, last)
  if first == last then -- the values read for the batch are mostly false
    local person = persons[first]
    return call.persons[person] and has_live_reservation(call, person, 1)
  end
  local seen = {}
  for at = first, last do
    local person = persons[at]
    local number = at - first + 1
    local duplicate = seen[person] and number or has_live_reservation(call, person, number)
    if duplicate then
      return duplicate
    end
    seen[person] = true
  end
  return false
end

-- Timers run only if places are missing: a claim that finds room need not process other deadlines.
local function has_room(call, quota_id, quota, places)
  local room = remaining_of(quota)
  if room < places and quota[Q.due] > 0 and quota[Q.due] <= call.now and not call.timers_run[quota_id] then
    run_timers(call, quota_id, TIMERS_MAX)
    room = remaining_of(quota)
  end
  return room >= places
end

local function pack_persons(persons, first, last)
  local packed = TEXT[#persons[first]] .. persons[first]
  for at = first + 1, last do
    packed = packed .. TEXT[#persons[at]] .. persons[at]
  end
  return packed
end

local function hold(call, id, quota_id, quota, fingerprint, envelope_hash, persons, first, last)
  local terms, places = quota[Q.terms], last - first + 1
  local deadline, closes_at = call.now + terms[T.hold], terms[T.closes_at]
  if closes_at > 0 and closes_at < deadline then
    deadline = closes_at
  end
  local packed_deadline, packed_persons = pack_time(deadline), pack_persons(persons, first, last)
  local packed_fingerprint = TEXT[#fingerprint] .. fingerprint
  -- {'h', id, quota_id, deadline, fingerprint, envelope_hash, persons}: the journal chains the envelope's hash, and
  -- stores the envelope separately: it can be erased, and the chain stays valid.
  local seq = record_packed(
    call, '\151\161h' .. TEXT[#id] .. id .. TEXT[#quota_id] .. quota_id .. packed_deadline .. packed_fingerprint
      .. TEXT[#envelope_hash] .. envelope_hash .. ARRAY[places] .. packed_persons
  )
  -- {HELD, number, fingerprint, deadline, seq, 0, '', person, ...}, as R says
  local packed = ARRAY[7 + places] .. '\161h' .. quota[Q.packed_number] .. packed_fingerprint .. packed_deadline
    .. pack_seq(seq) .. '\0\160' .. packed_persons
  local held = call.held_persons
  local count = #held
  for at = first, last do
    local person = persons[at]
    call.persons[person] = id
    held[count + 1], held[count + 2] = person, id
    count = count + 2
  end
  call.reservations[id] = packed
  held = call.held_reservations
  count = #held
  held[count + 1], held[count + 2] = id, packed
  quota[Q.held] = quota[Q.held] + places
  call.changed_quotas[quota_id] = true
  set_timer(call, quota_id, quota, deadline, id)
  return seq, deadline
end

-- The answer to one claim. A held claim gets only seq and deadline, which is the usual case under load.
local function judge(call, id, quota_id, fingerprint, envelope_hash, persons, first, last)
  local known = call.reservations[id] and get_reservation(call, id) -- false for most
  if call.damaged[id] or (known and not quota_id_of(call, known)) then
    return damaged(call, id)
  end
  if known and known[R.fingerprint] ~= fingerprint then
    return { 'exists_with_different_content', call.seq }
  end
  if known then
    return say_freed(call, describe(call, 'exists', known[R.held_seq], known, HELD))
  end
  local quota = get_quota(call, quota_id)
  if not quota then
    if call.damaged[quota_id] or get_facts(call, quota_id) then -- facts without a record: the record was lost
      return damaged(call, quota_id)
    end
    return { 'unknown_quota', call.seq }
  end
  local terms = quota[Q.terms]
  if terms[T.closed] == 1 or (terms[T.closes_at] > 0 and terms[T.closes_at] <= call.now) then
    return { 'closed', call.seq }
  end
  if terms[T.opens_at] > call.now then
    return { 'not_open', call.seq, terms[T.opens_at] }
  end
  local duplicate = find_duplicate(call, persons, first, last)
  if duplicate == DAMAGED then
    return damaged(call, id)
  end
  if duplicate then
    return { 'duplicate_applicant', call.seq, duplicate }
  end
  local places = last - first + 1
  if not has_room(call, quota_id, quota, places) then
    return { 'sold_out', call.seq, remaining_of(quota) }
  end
  local seq, deadline = hold(call, id, quota_id, quota, fingerprint, envelope_hash, persons, first, last)
  local freed_at = just_freed_at(call, quota_id)
  if freed_at then
    return { 'held', seq, HELD, quota_id, places, deadline, freed_at }, deadline
  end
  return seq, deadline
end

-- The envelopes of the held claims, for the journal: mostly all.
local function envelopes_of_holds(call, refused)
  if #refused == 0 then
    return call.envelopes
  end
  local envelopes = cmsgpack.unpack(call.envelopes)
  for at = #refused, 1, -1 do
    table.remove(envelopes, refused[at])
  end
  return #envelopes > 0 and cmsgpack.pack(envelopes)
end

local function claim(call)
  local ids, quotas, quota_of, fingerprints, hashes, places, persons = unpack(call.items, 1, FIELDS)
  preload(call.reservations, call.key.reservations, ids)
  preload_quotas(call, quotas)
  preload(call.persons, call.key.persons, persons)
  local answers, deadlines, refused, first = {}, {}, {}, 1
  for index = 1, #ids do
    local last = first + places[index] - 1
    if last < first then
      error(MISTAKE .. 'a claim for nobody')
    end
    local answer, deadline = judge(
      call, ids[index], quotas[quota_of[index]], fingerprints[index], hashes[index], persons, first, last
    )
    answers[index], deadlines[index] = answer, deadline or 0
    if not deadline then
      refused[#refused + 1] = index
    end
    first = last + 1
  end
  assert(first == #persons + 1, MISTAKE .. 'other persons than there are places')
  call.sealed = envelopes_of_holds(call, refused)
  return answers, deadlines
end

-- Some of the claims as a separate batch.
local function cut_claims(call, first, last)
  local items, place = call.items, 1
  local places, persons, envelopes = items[6], items[7], cmsgpack.unpack(call.envelopes)
  for index = 1, first - 1 do
    place = place + places[index]
  end
  local last_place = place - 1
  for index = first, last do
    last_place = last_place + places[index]
  end
  local part = {}
  for field = 1, FIELDS - 1 do
    part[field] = { unpack(items[field], first, last) }
  end
  local quotas, at = {}, {} -- only those of the part: another one may be unreadable
  for index, of in ipairs(part[3]) do
    if not at[of] then
      quotas[#quotas + 1] = items[2][of]
      at[of] = #quotas
    end
    part[3][index] = at[of]
  end
  part[2], part[FIELDS] = quotas, { unpack(persons, place, last_place) }
  return part, cmsgpack.pack({ unpack(envelopes, first, last) })
end

local function count_claims(call)
  return #call.items[1]
end

register('claim', claim, nil, { count = count_claims, cut = cut_claims })

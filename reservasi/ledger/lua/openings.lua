-- Shared by the commands of openings: the record, the draw, and the number of people (their identities: members.lua).

local OT = { -- of an opening's terms, in the order of OpeningTerms
  opens_at = 1, joins_from = 2, ends_at = 3, waiting_room = 4, proof_of_work = 5, rate = 6, rate_max = 7, adaptive = 8,
  commitment = 9, sealed_seed = 10,
  offices = 11, -- ids joined by commas; '' for all offices of the program, also if an earlier version stored none
  beacon_source = 12, -- who publishes the beacon, which one, and when; '' if not given, or stored by an earlier version
}
local OPENING_TERMS = 12
local O = {
  terms = 1, -- never changed in place
  version = 2, paused = 3, beacon = 4, drawn = 5, joined = 6, arrived = 7, admitted_through = 8, rate = 9,
  rate_fixed = 10, advanced_at = 11,
  leader = 12, lease_until = 13, -- of the controller that moves the mark; not in events
  cancelled = 14, reason = 15, reason_en = 16, -- cancelled permanently, or moved: the public reason
  moved_from = 17, revision = 18, revised_at = 19, -- the moment before the last move; changes of the announcement
  paused_at = 20, -- since when it is paused, 0 if it is not
}
local OPENING_FIELDS = 11 -- the fields in events; those from `cancelled` on only if set
local OPENING_LAST = 20
local UNREVISED = { 0, '', '', 0, 0, 0, 0 } -- defaults of fields that an earlier version did not store
local PAUSED_MAX_MS = 366 * 86400000
local COUNTED_AFTER_END_MS = 86400000 -- then the people who joined are forgotten

-- A record of an earlier version lacks later fields.
local function complete_opening(call, opening)
  local terms = opening[O.terms]
  terms[OT.offices] = terms[OT.offices] or ''
  terms[OT.beacon_source] = terms[OT.beacon_source] or ''
  if not opening[O.paused_at] then
    for at, value in ipairs(UNREVISED) do
      opening[O.lease_until + at] = value
    end
  end
  if opening[O.paused] == 1 and opening[O.paused_at] == 0 then
    opening[O.paused_at] = call.now
  end
end

local function get_opening(call, id)
  local opening = read_packed(call, call.openings, call.key.openings, id, is_opening)
  if opening then
    complete_opening(call, opening)
  end
  return opening
end

-- Whether an opening's terms cover an office; `offices` is the value of OT.offices.
local function has_office(offices, office)
  return offices == '' or string.find(',' .. offices .. ',', ',' .. office .. ',', 1, true) ~= nil
end

local function share_office(left, right)
  if left == '' then
    return true
  end
  for office in string.gmatch(left, '[^,]+') do
    if has_office(right, office) then
      return true
    end
  end
  return false
end

-- The openings of a moment that are not cancelled, including those of earlier items of the batch.
local function openings_at(call, opens_at)
  for _, id in ipairs(redis.call('HKEYS', call.key.openings)) do
    call.opening_ids[id] = true
  end
  local found = {}
  for id in pairs(call.opening_ids) do
    local opening = get_opening(call, id)
    if opening and opening[O.cancelled] ~= 1 and opening[O.terms][OT.opens_at] == opens_at then
      found[id] = opening
    end
  end
  return found
end

-- The opening with which quotas of an office open at a moment, and its id: there is at most one.
local function find_opening(call, opens_at, office)
  for id, opening in pairs(openings_at(call, opens_at)) do
    if has_office(opening[O.terms][OT.offices], office) then
      return id, opening
    end
  end
  return nil
end

local function record_opening(call, id, opening, by)
  call.changed_openings[id] = true
  local event = { 'o', id, unpack(opening, 1, OPENING_FIELDS) }
  if opening[O.revision] > 0 or opening[O.paused_at] > 0 then
    for field = O.cancelled, OPENING_LAST do
      event[#event + 1] = opening[field]
    end
  end
  event[#event + 1] = by
  return record(call, event)
end

-- An opening from the fields of an event, of which an old one has fewer.
local function opening_from(call, fields)
  local opening = { unpack(fields, 1, OPENING_FIELDS) }
  opening[O.leader], opening[O.lease_until] = '', 0
  for at = OPENING_FIELDS + 1, #fields do
    opening[O.lease_until + at - OPENING_FIELDS] = fields[at]
  end
  complete_opening(call, opening)
  return opening
end

local function has_opened(call, opening)
  return opening[O.drawn] == 1 or opening[O.terms][OT.opens_at] <= call.now
end

-- How long admission has been paused since the opening, by which the end moves.
local function paused_for(call, opening)
  if opening[O.paused] ~= 1 then
    return 0
  end
  return math.max(0, call.now - math.max(opening[O.paused_at], opening[O.terms][OT.opens_at]))
end

local function has_ended(call, opening)
  return opening[O.paused] ~= 1 and call.now >= opening[O.terms][OT.ends_at]
end

-- Whether people can join it or, without a waiting room, claim: then it keeps its quotas.
local function has_begun(call, opening)
  local terms = opening[O.terms]
  return call.now >= (terms[OT.waiting_room] == 1 and terms[OT.joins_from] or terms[OT.opens_at])
end

-- People who joined are kept as long as they may ask again: while it is paused, the end is unknown.
local function keep_people(call, id, opening)
  local until_ms = math.max(opening[O.terms][OT.ends_at], call.now) + (opening[O.paused] == 1 and PAUSED_MAX_MS or 0)
  for _, which in ipairs({ BEFORE, LATE }) do
    redis.call('PEXPIREAT', members_key(call, id, which), integer(until_ms + COUNTED_AFTER_END_MS))
  end
end

-- Never fewer than reported before, although the ledger may have been rebuilt without its people.
local function count_people(call, id, opening)
  if opening[O.drawn] == 1 then
    return math.max(opening[O.arrived], opening[O.joined] + get_members(call, id, LATE).count)
  end
  return math.max(opening[O.arrived], get_members(call, id, BEFORE).count)
end

-- Once it has opened, the people who joined before are final, whatever the clock says later. Returns whether it has.
local function draw_when_open(call, id, opening)
  local opens_at = opening[O.terms][OT.opens_at]
  if opening[O.drawn] == 1 then
    return true
  end
  if call.now < opens_at then
    return false
  end
  opening[O.arrived] = count_people(call, id, opening)
  opening[O.joined] = opening[O.arrived]
  opening[O.drawn], opening[O.advanced_at] = 1, opens_at
  record_opening(call, id, opening)
  return true
end

-- The answer with the state of an opening's waiting room.
local function describe_opening(call, outcome, opening, number)
  return {
    outcome, call.seq, number, opening[O.joined], opening[O.arrived], opening[O.admitted_through], opening[O.rate],
  }
end

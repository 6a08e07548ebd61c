-- set_opening: create an opening, or change it.
--
-- Item: {opening, version, paused, rate, beacon, terms, actor, reason, takes}
--   version   0: any (with terms: only create); else the version to replace
--   paused    changes to an existing opening: 0 or 1, -1: unchanged
--   rate      numbers admitted per minute, fixed by staff; 0: by the terms again; -1: unchanged
--   beacon    an outside value; '': unchanged
--   terms     0, or all of them: the fields of OT in order; an existing opening keeps its commitment and seed
--   actor, reason: who changes it and why, for the journal; '' is none, and neither is compared
--   takes     {opens_at, office, ...}: current moments and offices of the quotas that it is to get; [] none
-- The moment of an existing opening is moved by move_opening, together with its quotas.
-- Outcomes, in order of precedence (each but the first: + version):
--   unknown_opening    it does not exist, and no terms were given to create it
--   opening_cancelled  it is cancelled permanently
--   closed             it has ended
--   exists             it already has these values
--   exists_with_different_content  it has other terms, and should only be created; or another covers some of its quotas
--   version_mismatch   somebody changed it in the meantime
--   of_opening         some of the quotas belong to an opening that people can already join: + that opening
--   too_late           moment, beacon's source or entered beacon would change, or a field that is fixed after the opening
--   opening_set        created or changed
-- Example: {'p-1', 0, 1, -1, '', 0, 'staff:ani', 'a power cut', {}} -> {'opening_set', 2, 2}

local function wanted_opening_terms(current, given)
  if given == 0 then
    return current[O.terms]
  end
  local terms = { unpack(given, 1, OPENING_TERMS) }
  if current then
    for field = OT.commitment, OT.sealed_seed do
      terms[field] = current[O.terms][field]
    end
  end
  return terms
end

-- The end moves by the length of the pause.
local function wanted_pause(call, current, wanted, paused)
  if paused == -1 or paused == current[O.paused] then
    return
  end
  wanted[O.paused], wanted[O.paused_at] = paused, paused == 1 and call.now or 0
  local lost = paused_for(call, current)
  if lost > 0 then
    local terms = { unpack(wanted[O.terms], 1, OPENING_TERMS) }
    terms[OT.ends_at] = terms[OT.ends_at] + lost
    wanted[O.terms] = terms
  end
end

local function wanted_opening(call, current, item)
  local paused, rate, beacon, terms = item[3], item[4], item[5], wanted_opening_terms(current, item[6])
  if not current then
    local first_rate, rate_fixed = terms[OT.rate], 0
    if rate > 0 then
      first_rate, rate_fixed = rate, 1
    end
    return opening_from(call, { terms, 1, math.max(paused, 0), beacon, 0, 0, 0, 0, first_rate, rate_fixed, 0 })
  end
  local wanted = { unpack(current, 1, OPENING_LAST) }
  wanted[O.terms] = terms
  wanted_pause(call, current, wanted, paused)
  if beacon ~= '' then
    wanted[O.beacon] = beacon
  end
  if rate > 0 then
    wanted[O.rate], wanted[O.rate_fixed] = rate, 1
  elseif rate == 0 and current[O.rate_fixed] == 1 then
    wanted[O.rate], wanted[O.rate_fixed] = terms[OT.rate], 0
  elseif current[O.rate_fixed] == 0 and terms[OT.rate] ~= current[O.terms][OT.rate] then
    wanted[O.rate] = terms[OT.rate]
  end
  return wanted
end

local function same_opening(wanted, current)
  for field = O.version, OPENING_LAST do
    if wanted[field] ~= current[field] then
      return false
    end
  end
  return same(wanted[O.terms], current[O.terms], OPENING_TERMS)
end

-- Whether another opening covers quotas that these terms would cover.
local function is_taken(call, id, terms)
  for other, opening in pairs(openings_at(call, terms[OT.opens_at])) do
    if other ~= id and share_office(terms[OT.offices], opening[O.terms][OT.offices]) then
      return true
    end
  end
  return false
end

-- The opening that would lose quotas although people can join it; nil for none.
local function bereft(call, id, takes)
  for at = 1, #takes, 2 do
    local other, opening = find_opening(call, takes[at], takes[at + 1])
    if other and other ~= id and has_begun(call, opening) and not has_ended(call, opening) then
      return other
    end
  end
  return nil
end

local function is_moved(before, after)
  return not before or after[OT.opens_at] ~= before[OT.opens_at] or after[OT.offices] ~= before[OT.offices]
end

local function is_fixed(call, wanted, current)
  local before, after = current[O.terms], wanted[O.terms]
  local is_open = has_opened(call, current)
  if after[OT.opens_at] ~= before[OT.opens_at] or after[OT.beacon_source] ~= before[OT.beacon_source] then
    return true
  end
  if wanted[O.beacon] ~= current[O.beacon] and (is_open or current[O.beacon] ~= '') then
    return true
  end
  local is_other = is_moved(before, after) or after[OT.joins_from] ~= before[OT.joins_from]
  return is_open and (is_other or after[OT.waiting_room] ~= before[OT.waiting_room])
end

local function set_opening(call, item)
  local id, version, terms = item[1], item[2], item[6]
  local current = get_opening(call, id)
  if call.damaged[id] then
    return damaged(call, id)
  end
  if not current and (terms == 0 or version ~= 0) then
    return { 'unknown_opening', call.seq }
  end
  if current and current[O.cancelled] == 1 then
    return { 'opening_cancelled', call.seq, current[O.version] }
  end
  if current and terms == 0 and (item[3] ~= -1 or item[4] ~= -1) and has_ended(call, current) then
    return { 'closed', call.seq, current[O.version] }
  end
  local wanted = wanted_opening(call, current, item)
  if current and same_opening(wanted, current) then
    return { 'exists', call.seq, current[O.version] }
  end
  local is_elsewhere = is_moved(current and current[O.terms], wanted[O.terms])
  if (current and terms ~= 0 and version == 0) or (is_elsewhere and is_taken(call, id, wanted[O.terms])) then
    return { 'exists_with_different_content', call.seq, current and current[O.version] or 0 }
  end
  if current and version ~= 0 and version ~= current[O.version] then
    return { 'version_mismatch', call.seq, current[O.version] }
  end
  local of_opening = bereft(call, id, item[9])
  if of_opening then
    return { 'of_opening', call.seq, current and current[O.version] or 0, of_opening }
  end
  if current and is_fixed(call, wanted, current) then
    return { 'too_late', call.seq, current[O.version] }
  end
  wanted[O.version] = current and current[O.version] + 1 or 1
  call.openings[id], call.opening_ids[id] = wanted, true
  keep_people(call, id, wanted)
  return { 'opening_set', record_opening(call, id, wanted, by_of(item[7], item[8])), wanted[O.version] }
end

register('set_opening', one_by_one(set_opening), { 'allow-oom' })

-- move_opening: move an opening and its quotas to another moment, move its end, or cancel it and close its quotas.
--
-- Item: {opening, version, opens_at, ends_at, cancelled, reason, reason_en, actor}
--   version    0: any; else the version to replace
--   opens_at   the new moment, also of its quotas; its end, and joining unless begun, move equally; -1: unchanged
--   ends_at    the new end; -1: at the same distance from the opening
--   cancelled  1 cancels it permanently; 0 is only possible if it is not cancelled; -1: unchanged
--   reason, reason_en  shown to the public; '': unchanged, and none for a new moment
--   actor      who does it, for the journal; '' is none
-- People who joined, seed, commitment, beacon and reservations stay unchanged.
-- Outcomes, in order of precedence (each but the first: + version):
--   unknown_opening    no such opening
--   exists             it already has these values
--   opening_cancelled  it is already cancelled
--   version_mismatch   somebody changed it in the meantime
--   closed             it has ended
--   too_late           it has opened: its moment can no longer change
--   moment_invalid     it would open or end in the past, or end before it opens
--   moment_taken       another opening, or quotas without one, open then in one of its offices: + opening, quota
--   quota_closes       a quota of it closes before the new moment: + '', quota
--   too_many_quotas    it has more than MOVED_MAX
--   opening_set        done, for the opening and all of its quotas
-- Example: {'p-1', 0, 4000000000500, -1, -1, '', '', 'staff:ani'} -> {'opening_set', 2, 2}

local MOVED_MAX = 5000 -- quotas, each of which needs an event

-- An unreadable or lost quota may belong to the opening: if it stayed behind, it would open without its opening.
local function note_unreadable(call, is_there, offices)
  for _, id in ipairs(redis.call('HKEYS', call.key.facts)) do
    local has_gone = call.quotas[id] == false and not call.damaged[id]
    local facts = not is_there[id] and not has_gone and get_facts(call, id)
    if facts and has_office(offices, facts[1]) then
      call.unreadable_quota = id
    end
  end
end

-- The quotas of these offices that open at a moment, by id and ordered by id.
local function quotas_of(call, opens_at, offices)
  local stored, ids, packed = redis.call('HGETALL', call.key.quotas), {}, cmsgpack.pack(opens_at)
  local is_there = {}
  for at = 1, #stored, 2 do
    local id = stored[at]
    local quota = call.quotas[id]
    is_there[id] = quota or terms_of(string.sub(stored[at + 1], QUOTA_HEAD_BYTES + 1))
    if not quota and string.find(stored[at + 1], packed, QUOTA_HEAD_BYTES + 1, true) then -- most have other moments
      quota = unpack_quota(call, id, stored[at + 1])
      is_there[id] = quota
    end
    if quota and quota[Q.terms][T.opens_at] == opens_at then
      ids[#ids + 1] = id
      call.quotas[id] = quota
    end
  end
  note_unreadable(call, is_there, offices)
  preload(call.facts, call.key.facts, ids)
  local found = {}
  for _, id in ipairs(ids) do
    local facts = get_facts(call, id)
    if not facts then
      call.unreadable_quota = id
    elseif has_office(offices, facts[1]) then
      found[#found + 1] = id
    end
  end
  table.sort(found)
  return found
end

local function wanted_window(call, current, wanted, opens_at, ends_at)
  local terms = wanted[O.terms]
  local distance = opens_at == -1 and 0 or opens_at - terms[OT.opens_at]
  if distance ~= 0 then
    terms[OT.opens_at], terms[OT.ends_at] = opens_at, terms[OT.ends_at] + distance
    if terms[OT.joins_from] > call.now then
      terms[OT.joins_from] = terms[OT.joins_from] + distance
    end
    wanted[O.moved_from], wanted[O.reason], wanted[O.reason_en] = current[O.terms][OT.opens_at], '', ''
  end
  if ends_at ~= -1 and ends_at ~= terms[OT.ends_at] then
    terms[OT.ends_at] = ends_at
    wanted[O.paused_at] = wanted[O.paused] == 1 and call.now or 0 -- the new end includes the pause so far
  end
end

local function wanted_move(call, current, item)
  local opens_at, ends_at, cancelled, reason, reason_en = item[3], item[4], item[5], item[6], item[7]
  local wanted = { unpack(current, 1, OPENING_LAST) }
  wanted[O.terms] = { unpack(current[O.terms], 1, OPENING_TERMS) }
  if cancelled ~= -1 then
    wanted[O.cancelled] = cancelled
  end
  if cancelled ~= 1 then
    wanted_window(call, current, wanted, opens_at, ends_at)
  end
  if reason ~= '' then
    wanted[O.reason], wanted[O.reason_en] = reason, reason_en
  end
  return wanted
end

local function is_moment_invalid(call, before, after)
  if before[OT.opens_at] ~= after[OT.opens_at] and after[OT.opens_at] <= call.now then
    return true
  end
  return before[OT.ends_at] ~= after[OT.ends_at]
    and (after[OT.ends_at] <= after[OT.opens_at] or after[OT.ends_at] < call.now)
end

-- Another opening that would cover the same quotas, or a quota without an opening that would get this one; '' for none.
local function what_is_there(call, id, terms)
  for other, opening in pairs(openings_at(call, terms[OT.opens_at])) do
    if other ~= id and share_office(terms[OT.offices], opening[O.terms][OT.offices]) then
      return other, ''
    end
  end
  return '', quotas_of(call, terms[OT.opens_at], terms[OT.offices])[1] or ''
end

-- The first of the quotas that would close before it opens; nil if there is none.
local function closing_before(call, quotas, opens_at)
  for _, id in ipairs(quotas) do
    local closes_at = get_quota(call, id)[Q.terms][T.closes_at]
    if closes_at > 0 and closes_at <= opens_at then
      return id
    end
  end
end

-- Quotas of an opening have few different terms, each of which is packed once.
local function change_quotas(call, quotas, field, value, by)
  local changed = {}
  for _, id in ipairs(quotas) do
    local quota = get_quota(call, id)
    if quota[Q.terms][field] ~= value then
      local packed = quota[Q.packed_terms]
      if not changed[packed] then
        local terms = { unpack(quota[Q.terms], 1, QUOTA_TERMS) }
        terms[field] = value
        changed[packed] = { terms, cmsgpack.pack(terms) }
      end
      local facts = { unpack(get_facts(call, id), 1, FACTS) }
      facts[IMPORTED] = imported_terms(quota, call.facts[id], changed[packed][1], by and by[1] or '')
      quota[Q.terms], quota[Q.packed_terms] = changed[packed][1], changed[packed][2]
      quota[Q.version] = quota[Q.version] + 1
      call.changed_quotas[id] = true
      call.facts[id], call.changed_facts[id] = facts, true
      record(call, { 'q', id, quota[Q.version], terms_and_facts(quota[Q.terms], facts), by })
    end
  end
  note_freed(call, call.key.quotas)
end

local function carry_out(call, id, current, wanted, quotas, by)
  wanted[O.version] = current[O.version] + 1
  wanted[O.revision], wanted[O.revised_at] = current[O.revision] + 1, call.now
  call.openings[id], call.opening_ids[id] = wanted, true
  local seq = record_opening(call, id, wanted, by)
  if wanted[O.cancelled] == 1 then
    change_quotas(call, quotas, T.closed, 1, by)
  elseif #quotas > 0 then
    change_quotas(call, quotas, T.opens_at, wanted[O.terms][OT.opens_at], by)
  end
  keep_people(call, id, wanted)
  return seq
end

local function move_opening(call, item)
  local id, version = item[1], item[2]
  local current = get_opening(call, id)
  if call.damaged[id] then
    return damaged(call, id)
  end
  if not current then
    return { 'unknown_opening', call.seq }
  end
  local wanted = wanted_move(call, current, item)
  if same_opening(wanted, current) then
    return { 'exists', call.seq, current[O.version] }
  end
  if current[O.cancelled] == 1 then
    return { 'opening_cancelled', call.seq, current[O.version] }
  end
  if version ~= 0 and version ~= current[O.version] then
    return { 'version_mismatch', call.seq, current[O.version] }
  end
  if has_ended(call, current) then
    return { 'closed', call.seq, current[O.version] }
  end
  local before, after = current[O.terms], wanted[O.terms]
  local is_moved, is_cancelled = before[OT.opens_at] ~= after[OT.opens_at], wanted[O.cancelled] == 1
  if is_moved and has_opened(call, current) then
    return { 'too_late', call.seq, current[O.version] }
  end
  if is_moment_invalid(call, before, after) then
    return { 'moment_invalid', call.seq, current[O.version] }
  end
  local opening, quota = '', ''
  if is_moved then
    opening, quota = what_is_there(call, id, after)
  end
  if opening ~= '' or quota ~= '' then
    return { 'moment_taken', call.seq, current[O.version], opening, quota }
  end
  local quotas = (is_moved or is_cancelled) and quotas_of(call, before[OT.opens_at], before[OT.offices]) or {}
  if call.unreadable_quota then
    return damaged(call, call.unreadable_quota)
  end
  local closing = is_moved and closing_before(call, quotas, after[OT.opens_at])
  if closing then
    return { 'quota_closes', call.seq, current[O.version], '', closing }
  end
  if #quotas > MOVED_MAX then
    return { 'too_many_quotas', call.seq, current[O.version] }
  end
  local seq = carry_out(call, id, current, wanted, quotas, by_of(item[8], item[6]))
  return { 'opening_set', seq, wanted[O.version] }
end

register('move_opening', one_by_one(move_opening), { 'allow-oom' })

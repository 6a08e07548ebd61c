-- set_quota: create a quota, or change some of its terms.
--
-- Item: {quota, version, capacity, opens_at, closes_at, closed, terms, actor, reason, opening}
--   version   0: any (with terms: only create); else the version to replace
--   capacity, opens_at, closes_at, closed: changes to an existing quota, -1: unchanged
--   terms     0, or all of them: the fields of T in order, then office, service, channel, date, start, end
--   actor, reason: who changes it and why, for the journal; '' is none, and neither is compared.
--             Terms set by 'import' are stored as such, to distinguish them from changes by staff. If others close a
--             quota that an import had closed, it counts as closed by them
--   opening   the id of the new opening with which it is to open; '' is none
-- Holds end with the closing time: if it is moved before a hold's deadline, it ends then. A later or removed closing
-- time extends no deadline. `closed` ends no hold: it may be confirmed until its deadline.
-- A quota of an opening opens with it. Only a new opening may take it, and only before people can join the other one.
-- Outcomes, in order of precedence (each but the first: + version):
--   unknown_quota      it does not exist, and no terms were given to create it
--   exists             it already has these values
--   exists_with_different_content  it exists with other terms, and should only be created
--   version_mismatch   somebody changed it in the meantime
--   of_opening         its opening has not ended, and it would open by itself: + that opening
--   window_reversed    it would close before it opens, or at the same moment
--   below_taken        capacity would fall below the held, confirmed and returning places: + taken
--   quota_set          created or changed
-- Example: {'p.o.s.20261201.0800.online', 0, 120, -1, -1, -1, 0, 'staff:ani', 'five more', ''} -> {'quota_set', 4, 2}

local FACTS = 6
local IMPORTED = FACTS + 1 -- after the facts, once terms have changed: values set by imports (imported_terms)
local STAFF_TERMS = { T.capacity, T.opens_at, T.closes_at, T.closed } -- terms that may be changed by others than imports
local CLOSED = 4 -- of STAFF_TERMS
local IMPORT_ACTOR = 'import' -- model.IMPORT_ACTOR
local NOT_KNOWN = -1

local function wanted_terms(current, item)
  local terms = item[7]
  if terms ~= 0 then
    return { unpack(terms, 1, QUOTA_TERMS) }
  end
  local wanted = { unpack(current, 1, QUOTA_TERMS) }
  local changes = { [T.capacity] = item[3], [T.opens_at] = item[4], [T.closes_at] = item[5], [T.closed] = item[6] }
  for field, value in pairs(changes) do
    if value ~= -1 then
      wanted[field] = value
    end
  end
  return wanted
end

local function wanted_facts(current, terms)
  if terms == 0 then
    return current
  end
  return { unpack(terms, QUOTA_TERMS + 1, QUOTA_TERMS + FACTS) }
end

-- Whether somebody closes what an import had closed, so that no import opens it again.
local function takes_closing_over(current, current_facts, item)
  local imported = current_facts[IMPORTED]
  return item[6] == 1 and item[8] ~= IMPORT_ACTOR and current[Q.terms][T.closed] == 1
    and imported ~= nil and imported[CLOSED] == 1
end

-- STAFF_TERMS as last set by imports, NOT_KNOWN if a version that did not store them changed the quota before.
-- nil for a new quota: it has its original terms.
local function imported_terms(current, current_facts, wanted, actor)
  if not current then
    return nil
  end
  local before, known, imported = current[Q.terms], current_facts[IMPORTED], {}
  for index, field in ipairs(STAFF_TERMS) do
    if actor == IMPORT_ACTOR and wanted[field] ~= before[field] then
      imported[index] = wanted[field]
    elseif known then
      imported[index] = known[index]
    else
      imported[index] = current[Q.version] == 1 and before[field] or NOT_KNOWN
    end
  end
  return imported
end

local function same(left, right, count)
  for field = 1, count do
    if left[field] ~= right[field] then
      return false
    end
  end
  return true
end

local function terms_and_facts(terms, facts)
  local all = { unpack(terms, 1, QUOTA_TERMS) }
  for _, fact in ipairs(facts) do
    all[#all + 1] = fact
  end
  return all
end

-- The opening that prevents a quota from opening at another moment; nil for none.
local function opening_kept(call, current, office, wanted_opens_at, taker)
  if current[T.opens_at] == wanted_opens_at then
    return nil
  end
  local id, opening = find_opening(call, current[T.opens_at], office)
  if not opening or has_ended(call, opening) then
    return nil
  end
  local other = taker ~= '' and taker ~= id and get_opening(call, taker)
  local takes = other and other[O.cancelled] ~= 1 and other[O.terms][OT.opens_at] == wanted_opens_at
    and has_office(other[O.terms][OT.offices], office)
  if takes and not has_begun(call, opening) then
    return nil
  end
  return id
end

-- Whether a quota with these moments could never be claimed; a stored one may get other changes.
local function is_reversed(current, wanted)
  local opens_at, closes_at = wanted[T.opens_at], wanted[T.closes_at]
  if closes_at == 0 or opens_at < closes_at then
    return false
  end
  return not current or opens_at ~= current[T.opens_at] or closes_at ~= current[T.closes_at]
end

-- A number is never used twice, also after its quota was retired.
local function new_quota(call, id)
  local given = call.numbers_given or tonumber(redis.call('HGET', call.key.meta, 'numbers') or 0)
  assert(given < NUMBER_MAX, 'no number is left for another quota')
  local number = given + 1
  assert(not name_of(call, number), 'damaged: the count of numbers given')
  call.numbers_given = number
  call.names[number], call.changed_names[number] = id, true
  local quota = { 0, 0, 0, 0, 0, 0, number, 0, unpack(texts_of(number)) }
  set_due(quota, 0)
  quota[Q.id] = id
  return quota
end

local function set_quota(call, item)
  local id, version, terms = item[1], item[2], item[7]
  local current = get_quota(call, id)
  if call.damaged[id] or (current and not get_facts(call, id)) or (not current and get_facts(call, id)) then
    return damaged(call, id)
  end
  if not current and (terms == 0 or version ~= 0) then
    return { 'unknown_quota', call.seq }
  end
  local current_facts = current and get_facts(call, id) or {}
  local wanted, facts = wanted_terms(current and current[Q.terms], item), wanted_facts(current_facts, terms)
  local takes_over = current and takes_closing_over(current, current_facts, item)
  if current and not takes_over and same(wanted, current[Q.terms], QUOTA_TERMS) and same(facts, current_facts, FACTS) then
    return { 'exists', call.seq, current[Q.version] }
  end
  if current and terms ~= 0 and version == 0 then
    return { 'exists_with_different_content', call.seq, current[Q.version] }
  end
  if current and version ~= 0 and version ~= current[Q.version] then
    return { 'version_mismatch', call.seq, current[Q.version] }
  end
  local kept_by = current and opening_kept(call, current[Q.terms], current_facts[1], wanted[T.opens_at], item[10])
  if kept_by then
    return { 'of_opening', call.seq, current[Q.version], kept_by }
  end
  if is_reversed(current and current[Q.terms], wanted) then
    return { 'window_reversed', call.seq, current and current[Q.version] or 0 }
  end
  local taken = current and current[Q.held] + current[Q.confirmed] + current[Q.returning] or 0
  if wanted[T.capacity] < taken then
    return { 'below_taken', call.seq, current and current[Q.version] or 0, taken }
  end
  -- Holds that ended with the old closing time stay ended, also if the new one is in the future.
  if current and has_closed(call, current) then
    run_timers(call, id, TIMERS_MAX)
  end
  local kept_facts = { unpack(facts, 1, FACTS) }
  kept_facts[IMPORTED] = imported_terms(current, current_facts, wanted, item[8])
  if takes_over then
    kept_facts[IMPORTED][CLOSED] = NOT_KNOWN
  end
  local quota = current or new_quota(call, id)
  quota[Q.terms], quota[Q.packed_terms] = wanted, cmsgpack.pack(wanted)
  quota[Q.version] = quota[Q.version] + 1
  call.quotas[id], call.facts[id] = quota, kept_facts
  call.changed_quotas[id], call.changed_facts[id] = true, true
  note_closing(call, id, quota)
  note_freed(call, id)
  local seq = record(call, { 'q', id, quota[Q.version], terms_and_facts(wanted, kept_facts), by_of(item[8], item[9]) })
  return { 'quota_set', seq, quota[Q.version] }
end

register('set_quota', one_by_one(set_quota), { 'allow-oom' })

-- retire_opening: remove an opening that has ended from the ledger, with the people who joined it.
--
-- Item: {opening}
-- Outcomes, in order of precedence:
--   unknown_opening  no such opening; or it is already retired
--   not_over         its end lies ahead, or it is paused, since the end of a pause moves its end
--   retired          removed
-- Example: {'p-1'} -> {'retired', 2}

-- An opening that stays paused ends when the people who joined it are forgotten.
local function is_over(call, opening)
  local ends_at = opening[O.terms][OT.ends_at]
  if opening[O.paused] == 1 and opening[O.cancelled] ~= 1 then
    ends_at = math.max(ends_at, opening[O.paused_at]) + PAUSED_MAX_MS
  end
  return ends_at <= call.now
end

local function retire_opening(call, item)
  local id = item[1]
  local opening = get_opening(call, id)
  if call.damaged[id] then
    return damaged(call, id)
  end
  if not opening then
    return { 'unknown_opening', call.seq }
  end
  if not is_over(call, opening) then
    return { 'not_over', call.seq }
  end
  for _, which in ipairs({ BEFORE, LATE }) do
    redis.call('UNLINK', members_key(call, id, which))
    call.members[id .. which] = nil
  end
  call.openings[id], call.changed_openings[id] = false, true
  return { 'retired', record(call, { 'u', id }) }
end

register('retire_opening', one_by_one(retire_opening), { 'allow-oom' })

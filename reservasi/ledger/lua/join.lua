-- join: count people among those who wait for an opening; nothing else is kept of them, and no event tells of them.
--
-- Whoever joins before the opening has no number yet: the draw gives it. Whoever comes later stands behind all who have
-- come so far; to ask again never gives a better number. One batch is one moment: all its late ones get the same.
--
-- Item: {opening, ticket_id}
-- Outcomes, in order of precedence:
--   unknown_opening   no such opening
--   no_waiting_room   it has none
--   opening_cancelled  it was called off
--   not_open          the window for joining lies ahead: + when it begins
--   closed            it has ended, and is not paused
--   joined            counted: + number (-1 before the opening), joined, arrived, admitted_through, rate
-- Example: {'p-1', 't...'} -> {'joined', 1, -1, 0, 0, 0, 600}

-- Where all were counted before, nothing is written at all.
local function add_people(call, id, tickets, opening)
  local key, is_changed = people_of(call, id), false
  for first = 1, #tickets, CHUNK do
    local added = redis.call('PFADD', key, unpack(tickets, first, math.min(first + CHUNK - 1, #tickets)))
    is_changed = is_changed or added == 1
  end
  if is_changed then
    keep_people(call, id, opening)
  end
end

-- The answer to all of a batch who join one opening.
local function join_together(call, id, tickets)
  local opening = get_opening(call, id)
  if not opening then
    return { 'unknown_opening', call.seq }
  end
  local terms = opening[O.terms]
  if terms[OT.waiting_room] ~= 1 then
    return { 'no_waiting_room', call.seq }
  end
  if opening[O.cancelled] == 1 then
    return { 'opening_cancelled', call.seq }
  end
  if call.now < terms[OT.joins_from] and opening[O.drawn] ~= 1 then
    return { 'not_open', call.seq, terms[OT.joins_from] }
  end
  if has_ended(call, opening) then
    return { 'closed', call.seq }
  end
  local has_opened = draw_when_open(call, id, opening)
  add_people(call, id, tickets, opening)
  return describe_opening(call, 'joined', opening, has_opened and count_people(call, id, opening) or -1)
end

local function prepare_joins(call)
  local ids, tickets = {}, {}
  for _, item in ipairs(call.items) do
    local id = item[1]
    if not tickets[id] then
      ids[#ids + 1], tickets[id] = id, {}
    end
    tickets[id][#tickets[id] + 1] = item[2]
  end
  for _, id in ipairs(ids) do
    call.join_answers[id] = join_together(call, id, tickets[id])
  end
end

local function join(call, item)
  return call.join_answers[item[1]]
end

register('join', one_by_one(join, prepare_joins))

-- join: count people as waiting for an opening; nothing else is stored about them, and there are no events.
--
-- People who join before the opening have no number yet: the draw gives it, also if they ask again after it. People who
-- join later get the numbers after all previous ones; asking again never gives a better one. A batch is one moment: all
-- its late ones get the same number. An answer equal to that of another item is that item's index in the batch.
--
-- Item: {opening, ticket_id}
-- Outcomes, in order of precedence:
--   unknown_opening   no such opening
--   no_waiting_room   it has none
--   opening_cancelled  it was cancelled
--   not_open          joining has not begun: + when it begins
--   closed            it has ended, and is not paused
--   joined            counted: + number (-1: the draw gives it), joined, arrived, admitted_through, rate
-- Example: {'p-1', 't...'} -> {'joined', 1, -1, 0, 0, 0, 600}

-- If all were already counted, nothing is written.
local function add_people(call, id, opening, which, people)
  if add_members(get_members(call, id, which), people) then
    keep_people(call, id, opening)
  end
end

-- The answers to all joins of one opening in a batch: the second one is for those who joined before it opened.
local function join_together(call, id, people)
  local opening = get_opening(call, id)
  if call.damaged[id] then
    return damaged(call, id)
  end
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
  if not draw_when_open(call, id, opening) then
    add_people(call, id, opening, BEFORE, people)
    return describe_opening(call, 'joined', opening, -1)
  end
  local late, drawn, members = {}, {}, get_members(call, id, BEFORE)
  for _, person in ipairs(people) do
    if is_member(members, person) then
      drawn[person] = true
    else
      late[#late + 1] = person
    end
  end
  add_people(call, id, opening, LATE, late)
  return describe_opening(call, 'joined', opening, count_people(call, id, opening)),
    describe_opening(call, 'joined', opening, -1), drawn
end

local function join(call)
  local items, ids, people, person_at = call.items, {}, {}, {}
  for index = 1, #items do
    local id, person = items[index][1], person_of(items[index][2])
    local together = people[id]
    if not together then
      ids[#ids + 1], together = id, {}
      people[id] = together
    end
    together[#together + 1], person_at[index] = person, person
  end
  local said, said_to_drawn, drawn = {}, {}, {}
  for _, id in ipairs(ids) do
    said[id], said_to_drawn[id], drawn[id] = join_together(call, id, people[id])
  end
  local answers, first_at = {}, {}
  for index = 1, #items do
    local id = items[index][1]
    local answer = drawn[id] and drawn[id][person_at[index]] and said_to_drawn[id] or said[id]
    answers[index] = first_at[answer] or answer
    first_at[answer] = first_at[answer] or index
  end
  return answers
end

register('join', join)

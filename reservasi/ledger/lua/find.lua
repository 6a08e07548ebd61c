-- find: look a reservation up; changes nothing.
--
-- The deadline is the end of the hold: the quota's closing, if staff have moved that before the deadline.
--
-- Item: {reservation_id}
-- Outcomes, in order of precedence:
--   not_found  no such reservation, or its tombstone was dropped
--   found      its current state: an overdue hold is expired, whether or not it has been swept
-- Example: {'abcd...'} -> {'found', 3, 'c', 'p.o.s.20261201.0800.online', 1, 1796000000000}

local function find(call, item)
  if is_damaged(call, item[1]) then
    return damaged(call, item[1])
  end
  local reservation = get_reservation(call, item[1])
  if not reservation then
    return { 'not_found', call.seq }
  end
  local state = is_overdue(call, reservation) and EXPIRED or nil
  local answer = describe(call, 'found', seq_of(reservation), reservation, state)
  if reservation[R.state] == HELD then
    answer[6] = hold_end_of(call, reservation)
  end
  return answer
end

register('find', one_by_one(find, prepare_by_id), { 'no-writes' })

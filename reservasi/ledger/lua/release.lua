-- release: end a hold.
--
-- Item: {reservation_id, actor, reason}
--   actor, reason: who releases it and why, for the journal; '' is none
-- Outcomes, in order of precedence:
--   not_found     no such reservation, or its tombstone was dropped
--   exists        it was already released: the same answer + freed_at
--   hold_expired  the deadline, or the closing time of its quota, has ended the hold
--   not_held      it is confirmed, or was cancelled
--   released      ended; its places return by the quota's terms + freed_at
-- `freed_at` as in claim.lua.
-- Example: {'abcd...', '', ''}
--   -> {'released', 3, 'r', 'p.o.s.20261201.0800.online', 1, 1796000000000, 1795999400000}

local function release(call, item)
  local id = item[1]
  if is_damaged(call, id) then
    return damaged(call, id)
  end
  local reservation = get_reservation(call, id)
  if not reservation then
    return { 'not_found', call.seq }
  end
  if reservation[R.state] == RELEASED then
    return say_freed(call, describe(call, 'exists', seq_of(reservation), reservation))
  end
  if is_overdue(call, reservation) then
    end_reservation(call, id, reservation, EXPIRED)
  end
  if reservation[R.state] == EXPIRED then
    return describe(call, 'hold_expired', seq_of(reservation), reservation)
  end
  if reservation[R.state] ~= HELD then
    return describe(call, 'not_held', seq_of(reservation), reservation)
  end
  end_reservation(call, id, reservation, RELEASED, by_of(item[2], item[3]))
  return say_freed(call, describe(call, 'released', seq_of(reservation), reservation))
end

register('release', one_by_one(release, prepare_by_id), { 'allow-oom' })

-- cancel: end a confirmed reservation.
--
-- Item: {reservation_id, by_staff (0 or 1), actor, reason}
--   actor, reason: who cancels and why, for the journal; '' is none
-- Outcomes, in order of precedence:
--   not_found      no such reservation, or its tombstone was dropped
--   exists         it was already cancelled: the same answer + freed_at
--   not_confirmed  it is held, or has ended otherwise
--   too_late       the last moment has passed and the caller is not staff; or its date has passed
--   cancelled      ended; its places return by the quota's terms + freed_at
-- `freed_at` as in claim.lua: the person who cancelled may tell another person about the place.
-- Example: {'abcd...', 0, '', ''}
--   -> {'cancelled', 4, 'k', 'p.o.s.20261201.0800.online', 1, 1796000000000, 1795999400000}

local function cancel(call, item)
  local id, by_staff = item[1], item[2] == 1
  if is_damaged(call, id) then
    return damaged(call, id)
  end
  local reservation = get_reservation(call, id)
  if not reservation then
    return { 'not_found', call.seq }
  end
  if reservation[R.state] == CANCELLED then
    return say_freed(call, describe(call, 'exists', seq_of(reservation), reservation))
  end
  local is_retired = reservation[R.state] == RETIRED
  if reservation[R.state] ~= CONFIRMED and not is_retired then
    return describe(call, 'not_confirmed', seq_of(reservation), reservation)
  end
  if is_retired then
    return describe(call, 'too_late', call.seq, reservation)
  end
  local last_moment = get_quota(call, quota_id_of(call, reservation))[Q.terms][T.cancel_until]
  if last_moment > 0 and last_moment < call.now and not by_staff then
    return describe(call, 'too_late', call.seq, reservation)
  end
  end_reservation(call, id, reservation, CANCELLED, by_of(item[3], item[4]))
  return say_freed(call, describe(call, 'cancelled', seq_of(reservation), reservation))
end

register('cancel', one_by_one(cancel, prepare_by_id), { 'allow-oom' })

-- confirm: make a hold permanent.
--
-- Item: {reservation_id, payment_reference}
-- Outcomes, in order of precedence:
--   not_found     no such reservation, or forgotten after its tombstone's time
--   exists_with_different_content  it was confirmed before, with another payment reference
--   exists        it was confirmed before: the same answer
--   hold_expired  the deadline has ended the hold
--   not_held      it was released or cancelled
--   confirmed     permanent
-- Example: {'abcd...', 'PAY-1'} -> {'confirmed', 3, 'c', 'p.o.s.20261201.0800.online', 1, 1796000000000}

local REFERENCE_CHARS = 8 -- of a hash: enough to notice that somebody paid twice

local function digest_of(payment_reference)
  return payment_reference == '' and '' or string.sub(redis.sha1hex(payment_reference), 1, REFERENCE_CHARS)
end

-- A confirmation without a reference repeats one with, and the reverse.
local function differs(known, given)
  return known ~= '' and given ~= '' and known ~= given
end

local function confirm(call, item)
  local id, payment_reference = item[1], item[2]
  local reservation = get_reservation(call, id)
  if not reservation then
    return { 'not_found', call.seq }
  end
  local reference = digest_of(payment_reference)
  if reservation[R.state] == CONFIRMED and differs(reservation[R.reference], reference) then
    return describe('exists_with_different_content', reservation[R.seq], reservation)
  end
  if reservation[R.state] == CONFIRMED then
    return describe('exists', reservation[R.seq], reservation)
  end
  if is_overdue(call, reservation) then
    end_reservation(call, id, reservation, EXPIRED)
  end
  if reservation[R.state] == EXPIRED then
    return describe('hold_expired', reservation[R.seq], reservation)
  end
  if reservation[R.state] ~= HELD then
    return describe('not_held', reservation[R.seq], reservation)
  end
  local quota_id, places = reservation[R.quota], places_of(reservation)
  local quota = get_quota(call, quota_id)
  quota[Q.held] = quota[Q.held] - places
  quota[Q.confirmed] = quota[Q.confirmed] + places
  push(call.timers_removed, quota_id, id)
  reservation[R.state], reservation[R.reference] = CONFIRMED, reference
  reservation[R.seq] = record(call, { 'c', id, quota_id, places, payment_reference })
  call.changed_quotas[quota_id] = true
  call.changed_reservations[id] = true
  return describe('confirmed', reservation[R.seq], reservation)
end

register('confirm', confirm, prepare_by_id, { 'allow-oom' })

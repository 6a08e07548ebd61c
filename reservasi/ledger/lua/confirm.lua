-- confirm: make a hold permanent.
--
-- Item: {reservation_id, payment_reference}
-- Outcomes, in order of precedence:
--   not_found     no such reservation, or its tombstone was dropped
--   exists_with_different_content  it was already confirmed, with another payment reference or with none
--   exists        it was already confirmed: the same answer, also if its date has passed
--   hold_expired  the deadline, or the closing time of its quota, has ended the hold
--   not_held      it was released or cancelled
--   confirmed     permanent
-- Example: {'abcd...', 'PAY-1'} -> {'confirmed', 3, 'c', 'p.o.s.20261201.0800.online', 1, 1796000000000}

local REFERENCE_CHARS = 8 -- of a hash: enough to notice a second payment

local function digest_of(payment_reference)
  return payment_reference == '' and '' or string.sub(redis.sha1hex(payment_reference), 1, REFERENCE_CHARS)
end

-- A confirmation without a reference repeats one with a reference. The reverse is not a repetition: the reference would
-- not be recorded, although the person who paid would get a success.
local function differs(known, given)
  return given ~= '' and known ~= given
end

local function confirm(call, item)
  local id, payment_reference = item[1], item[2]
  if is_damaged(call, id) then
    return damaged(call, id)
  end
  local reservation = get_reservation(call, id)
  if not reservation then
    return { 'not_found', call.seq }
  end
  local reference = digest_of(payment_reference)
  local was_confirmed = reservation[R.state] == CONFIRMED or reservation[R.state] == RETIRED
  if was_confirmed and differs(reservation[R.reference], reference) then
    return describe(call, 'exists_with_different_content', seq_of(reservation), reservation)
  end
  if was_confirmed then
    return describe(call, 'exists', seq_of(reservation), reservation)
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
  local quota_id, places = quota_id_of(call, reservation), places_of(reservation)
  local quota = get_quota(call, quota_id)
  quota[Q.held] = less(quota[Q.held], places)
  quota[Q.confirmed] = quota[Q.confirmed] + places
  stop_timer(call, quota, reservation[R.deadline], id)
  reservation[R.state], reservation[R.reference] = CONFIRMED, reference
  reservation[R.later] = record(call, { 'c', id, quota_id, places, payment_reference }) - reservation[R.held_seq]
  call.changed_quotas[quota_id] = true
  call.changed_reservations[id] = true
  return describe(call, 'confirmed', seq_of(reservation), reservation)
end

register('confirm', one_by_one(confirm, prepare_by_id), { 'allow-oom' })

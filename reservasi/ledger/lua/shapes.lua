-- Checks whether an unpacked value can have been written by these functions. Stored values may be damaged, so each is
-- checked when it is unpacked: a claim's quotas only if their text is new to this server's Lua state (shared.lua).

local unpack_one, are_terms, are_quota, is_reservation, are_facts, is_opening

do -- Lua allows 200 local names in a function
  local TIME_MAX = 2 ^ 44 - 1 -- eleven hexadecimal digits in a timer
  local SEQ_MAX = 2 ^ 53 - 1 -- model.SEQ_MAX
  local COUNT_LIMIT = 2 ^ 31 - 1 -- four bytes in a quota's record
  local LETTERS = { h = true, c = true, r = true, x = true, k = true, t = true } -- of a reservation's states

  local function is_count(value, most)
    return type(value) == 'number' and value >= 0 and value <= most and value % 1 == 0
  end

  local function are_texts(fields, first, last)
    for at = first, last do
      if type(fields[at]) ~= 'string' then
        return false
      end
    end
    return true
  end

  local function are_counts(fields, first, last, most)
    for at = first, last do
      if not is_count(fields[at], most) then
        return false
      end
    end
    return true
  end

  -- The one array packed in a text; nil if it is damaged or not an array.
  function unpack_one(packed)
    local is_packed, value, more = pcall(cmsgpack.unpack, packed)
    if is_packed and more == nil and type(value) == 'table' then
      return value
    end
    return nil
  end

  -- A quota's terms, T in shared.lua: capacity, moments and delays, closed.
  function are_terms(terms)
    return terms ~= nil and #terms == T.closed and are_counts(terms, 1, T.closed, SEQ_MAX)
      and terms[T.capacity] <= COUNT_LIMIT and terms[T.return_min] <= terms[T.return_max] and terms[T.closed] <= 1
  end

  -- A quota's numbers in the order of QUOTA_HEAD, and its terms.
  function are_quota(terms, held, confirmed, returning, version, number, due)
    return are_terms(terms) and held >= 0 and confirmed >= 0 and returning >= 0
      and held + confirmed + returning <= terms[T.capacity] and version >= 0 and number >= 1 and due >= 0
      and due <= SEQ_MAX
  end

  -- A reservation's record, R in shared.lua.
  function is_reservation(fields)
    return fields ~= nil and LETTERS[fields[R.state]] and is_count(fields[R.number], COUNT_LIMIT)
      and is_count(fields[R.deadline], TIME_MAX) and are_counts(fields, R.held_seq, R.later, SEQ_MAX)
      and are_texts(fields, R.fingerprint, R.fingerprint)
      and are_texts(fields, R.reference, math.max(#fields, R.first_person))
  end

  -- A quota's facts: six texts, followed by values set by imports.
  function are_facts(fields)
    return fields ~= nil and #fields >= 6 and #fields <= 7 and are_texts(fields, 1, 6)
      and (fields[7] == nil or type(fields[7]) == 'table')
  end

  -- An opening's record, O and OT in openings.lua; an earlier version stored fewer terms, and nothing after the lease.
  function is_opening(fields)
    local terms = fields ~= nil and fields[O.terms]
    return type(terms) == 'table' and are_counts(terms, OT.opens_at, OT.opens_at, SEQ_MAX)
      and type(terms[OT.joins_from]) == 'number' and terms[OT.joins_from] % 1 == 0 -- after a move it may lie before 1970
      and are_counts(terms, OT.ends_at, OT.adaptive, SEQ_MAX)
      and are_texts(terms, OT.commitment, math.max(#terms, OT.sealed_seed)) and #terms <= OT.beacon_source
      and are_counts(fields, O.version, O.paused, SEQ_MAX) and are_texts(fields, O.beacon, O.beacon)
      and are_counts(fields, O.drawn, O.advanced_at, SEQ_MAX) and are_texts(fields, O.leader, O.leader)
      and is_count(fields[O.lease_until], SEQ_MAX)
      and (#fields == O.lease_until or (#fields == O.paused_at and is_count(fields[O.cancelled], 1)
        and are_texts(fields, O.reason, O.reason_en) and are_counts(fields, O.moved_from, O.paused_at, SEQ_MAX)))
  end
end

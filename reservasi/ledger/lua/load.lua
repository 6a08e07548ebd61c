-- load: fill a fenced ledger from the records, in bounded batches; the last step owns it under a new epoch.
--
-- One item per call. Only the last caller of fence may load the ledger, and only during this run of the server. From
-- "begin" to "own" its meta has `loading`, and it cannot be owned: an interrupted loading is emptied and repeated. A row
-- that is already loaded is skipped, so that a batch may be repeated.
--
-- Item: {token, step, rows}; each row by step:
--   begin     {epoch, seq, chain}: where the ledger was fenced. Empties it, except for people in waiting rooms
--   quotas    {quota, version, terms}: terms as in set_quota, followed by values set by imports, if known
--   past      {quota, retired_at}: retired quotas, to which tombstones refer
--   openings  {opening, terms, ...}: the fields of O in events
--   live      {id, quota, state, fingerprint, deadline, held_seq, seq, reference, {person, ...}}; the payment
--             reference, or 'sha1:' and its digest
--   ended     {id, quota, state, fingerprint, deadline, held_seq, seq, reference, {person, ...}, ended_at}
--   returns   {quota, seq, places, at}: returning places
--   own       {epoch, seq, chain}: the new epoch, and the recorded position
-- Outcomes, in order of precedence:
--   moved    fenced by another, owned meanwhile, another position, not begun in this run, or no new epoch: + epoch, chain
--   loaded   + rows of the step
-- Example: {'t...', 'begin', {{1, 0, ''}}} -> {'loaded', 0, 1}

local DIGEST_ONLY = 'sha1:'

-- The mark of loading in this run of the server; another run may have lost a part of it.
local function loading_mark(token)
  return token .. '@' .. server_run_id()
end

local function begin_loading(call, token, row)
  local key = call.key
  if epoch_of(call) ~= row[1] or call.seq ~= row[2] or call.chain ~= row[3] then
    return false
  end
  redis.call(
    'UNLINK', key.quotas, key.facts, key.reservations, key.persons, key.due, key.timers, key.tombstones, key.journal,
    key.names, key.openings
  )
  redis.call(
    'HSET', key.meta, 'loading', loading_mark(token), 'seq', '0', 'chain', '', 'numbers', '0', 'run_id', FORM .. ':'
  )
  call.seq = 0
  return true
end

local function load_quota(call, row)
  local id, version, terms = row[1], row[2], row[3]
  if get_quota(call, id) then
    return
  end
  local quota = new_quota(call, id)
  local limits = { unpack(terms, 1, QUOTA_TERMS) }
  quota[Q.terms], quota[Q.packed_terms], quota[Q.version] = limits, cmsgpack.pack(limits), version
  call.quotas[id], call.facts[id] = quota, { unpack(terms, QUOTA_TERMS + 1, QUOTA_TERMS + IMPORTED) }
  call.changed_quotas[id], call.changed_facts[id] = true, true
end

-- The numbers of quotas, including retired ones.
local function number_of(call, quota_id)
  if not call.numbers then
    call.numbers = {}
    local names = redis.call('HGETALL', call.key.names)
    for at = 1, #names, 2 do
      call.numbers[names[at + 1]] = tonumber(names[at])
    end
  end
  return call.numbers[quota_id]
end

local function load_past(call, row)
  local id, retired_at = row[1], row[2]
  if number_of(call, id) then
    return
  end
  local number = new_quota(call, id)[Q.number]
  call.numbers[id] = number
  call.entombed[#call.entombed + 1] = integer(retired_at + 1)
  call.entombed[#call.entombed + 1] = '=' .. integer(number)
end

local function load_opening(call, row)
  local id = row[1]
  call.openings[id], call.changed_openings[id] = opening_from(call, { unpack(row, 2) }), true
end

-- Records that were restored from the ledger may have only the stored digest of a payment reference.
local function loaded_digest(reference)
  if string.sub(reference, 1, #DIGEST_ONLY) == DIGEST_ONLY then
    return string.sub(reference, #DIGEST_ONLY + 1)
  end
  return digest_of(reference)
end

-- The record as written by the commands; false if it is already loaded.
local function load_reservation(call, row)
  local id, quota_id, held_seq, seq, persons = row[1], row[2], row[6], row[7], row[9]
  if get_reservation(call, id) then
    return false
  end
  local quota = get_quota(call, quota_id)
  local number = quota and quota[Q.number] or number_of(call, quota_id)
  if not number then -- a tombstone of a quota that no longer exists
    return false
  end
  call.reservations[id] = {
    row[3], number, row[4], row[5], held_seq, seq - held_seq, loaded_digest(row[8]), unpack(persons),
  }
  call.changed_reservations[id] = true
  return true
end

local function load_live(call, row)
  local id, quota_id, state, persons = row[1], row[2], row[3], row[9]
  if not load_reservation(call, row) then
    return
  end
  local quota = get_quota(call, quota_id)
  if state == HELD then
    quota[Q.held] = quota[Q.held] + #persons
    set_timer(call, quota_id, quota, row[5], id)
    note_closing(call, quota_id, quota)
  else
    quota[Q.confirmed] = quota[Q.confirmed] + #persons
  end
  call.changed_quotas[quota_id] = true
  for _, person in ipairs(persons) do
    call.persons[person], call.changed_persons[person] = id, true
  end
end

local function load_ended(call, row)
  if load_reservation(call, row) then
    call.entombed[#call.entombed + 1] = integer(row[10])
    call.entombed[#call.entombed + 1] = row[1]
  end
end

local function load_returns(call, row)
  local quota_id, places, at = row[1], row[3], row[4]
  local quota = get_quota(call, quota_id)
  local what = '+' .. integer(row[2]) .. ':' .. integer(places)
  if redis.call('ZSCORE', call.key.timers, timer_of(quota, at, what)) then
    return
  end
  quota[Q.returning] = quota[Q.returning] + places
  set_timer(call, quota_id, quota, at, what)
  call.changed_quotas[quota_id] = true
end

local LOADERS = {
  quotas = load_quota, past = load_past, openings = load_opening, live = load_live, ended = load_ended,
  returns = load_returns,
}

local function own_loaded(call, row)
  local epoch, seq, chain = row[1], row[2], row[3]
  if epoch <= epoch_of(call) then
    return false
  end
  take_up(call, epoch, seq, chain)
  redis.call('HDEL', call.key.meta, 'loading', 'fence')
  note_freed(call, call.key.quotas)
  return true
end

local function load(call, item)
  local token, step, rows = item[1], item[2], item[3]
  local marks = redis.call('HMGET', call.key.meta, 'fence', 'loading')
  local has_begun = marks[2] == loading_mark(token)
  local is_done = marks[1] == token and (has_begun or step == 'begin')
  if is_done and step == 'begin' then
    is_done = has_begun or begin_loading(call, token, rows[1])
  elseif is_done and step == 'own' then
    is_done = own_loaded(call, rows[1])
  elseif is_done then
    for _, row in ipairs(rows) do
      LOADERS[step](call, row)
    end
    commit(call)
  end
  if not is_done then
    return { 'moved', call.seq, epoch_of(call), call.chain }
  end
  return { 'loaded', call.seq, #rows }
end

redis.register_function({
  function_name = '@LIBRARY@_load',
  flags = { 'allow-oom' },
  callback = function(keys, args)
    local call = begin(keys, args)
    local answer = load(call, call.items[1])
    return reply(call, 'done', { answer })
  end,
})

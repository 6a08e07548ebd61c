-- What all commands share: the keys, the fence, reading, changing and committing.
--
-- Keys, the same for every function, all under the program's hash tag (ledger/keys.py gives them in this order):
--   KEYS[1] meta          hash    epoch, seq, chain, run_id
--   KEYS[2] quotas        hash    quota -> packed limits and counts (fields: Q below)
--   KEYS[3] facts         hash    quota -> packed office, service, channel, date, start, end
--   KEYS[4] reservations  hash    reservation id -> packed record (fields: R below)
--   KEYS[5] persons       hash    person -> id of their live reservation
--   KEYS[6] due           zset    quota by the time of its earliest timer; may be early, never late
--   KEYS[7] timers        prefix  of one zset a quota: reservation id by deadline, "+<seq>:<places>" by return time
--   KEYS[8] tombstones    zset    ended reservation by the time it ended
--   KEYS[9] journal       stream  one entry a batch, id <epoch>-<last seq>
--
-- Arguments:
--   ARGV[1] epoch   the lineage that the caller believes in
--   ARGV[2] items   msgpack array, one positional array an item (ledger/wire.py)
--
-- Reply: msgpack array {batch outcome, epoch, seq, now_ms, answers}. The batch outcome is "done", or "fenced" with no
-- answers when the epoch is another, or when this run of the server has not been owned.
--
-- Nothing is written before every item of the batch is decided: Lua errors do not roll back. Items change tables in
-- memory, so that each sees the ones before it; commit() then writes each key once.

local KEY_COUNT = 9
local ARG_COUNT = 2
local CHUNK = 4000 -- arguments in one call; Lua's unpack() fails near 8000
local TIMERS_MAX = 2000 -- timers that one quota may have processed within one batch

local Q = {
  capacity = 1, opens_at = 2, closes_at = 3, cancel_until = 4, hold = 5, return_min = 6, return_max = 7, closed = 8,
  held = 9, confirmed = 10, returning = 11, version = 12,
}
local QUOTA_TERMS = 8 -- the first fields of Q are what staff decide
local R = { state = 1, quota = 2, fingerprint = 3, deadline = 4, held_seq = 5, seq = 6, reference = 7, first_person = 8 }
local HELD, CONFIRMED, RELEASED, EXPIRED, CANCELLED = 'h', 'c', 'r', 'x', 'k'

local function integer(number)
  return string.format('%.0f', number)
end

-- Asked for once in each run of the server, since it costs as much as a claim: another run has another Lua state.
local run_id

local function server_run_id()
  run_id = run_id or string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
  return run_id
end

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- The state of one call: what was read, what was changed, what happened.
local function begin(keys, args)
  assert(#keys == KEY_COUNT, 'expected ' .. KEY_COUNT .. ' keys, got ' .. #keys)
  assert(#args == ARG_COUNT, 'expected ' .. ARG_COUNT .. ' arguments, got ' .. #args)
  local key = {
    meta = keys[1], quotas = keys[2], facts = keys[3], reservations = keys[4], persons = keys[5], due = keys[6],
    timers = keys[7], tombstones = keys[8], journal = keys[9],
  }
  local meta = redis.call('HMGET', key.meta, 'epoch', 'seq', 'chain', 'run_id')
  return {
    key = key,
    items = cmsgpack.unpack(args[2]),
    believed_epoch = args[1],
    epoch = meta[1] or '0', seq = tonumber(meta[2] or 0), chain = meta[3] or '', run_id = meta[4],
    now = now_ms(),
    quotas = {}, reservations = {}, persons = {}, facts = {}, -- read; false where the key has no such field
    changed_quotas = {}, changed_reservations = {}, changed_persons = {}, changed_facts = {},
    timers_added = {}, timers_removed = {}, due_earlier = {}, due_stale = {}, timers_run = {},
    entombed = {}, forgotten = {}, events = {},
  }
end

local function is_fenced(call)
  return not call.run_id or call.epoch ~= call.believed_epoch or call.run_id ~= server_run_id()
end

-- Reading: several fields of one hash at once, each only once a call.
local function preload(cache, key, fields)
  local missing, count = {}, 0
  for _, field in ipairs(fields) do
    if cache[field] == nil then
      cache[field] = false
      count = count + 1
      missing[count] = field
    end
  end
  for first = 1, count, CHUNK do
    local last = math.min(first + CHUNK - 1, count)
    local values = redis.call('HMGET', key, unpack(missing, first, last))
    for index = first, last do
      cache[missing[index]] = values[index - first + 1]
    end
  end
end

local function read_packed(cache, key, field)
  local value = cache[field]
  if value == nil then
    value = redis.call('HGET', key, field)
    cache[field] = value
  end
  if type(value) == 'string' then
    value = cmsgpack.unpack(value)
    cache[field] = value
  end
  return value
end

-- For commands whose items start with a reservation id.
local function prepare_by_id(call)
  local ids = {}
  for _, item in ipairs(call.items) do
    ids[#ids + 1] = item[1]
  end
  preload(call.reservations, call.key.reservations, ids)
end

local function get_quota(call, id)
  return read_packed(call.quotas, call.key.quotas, id)
end

local function get_reservation(call, id)
  return read_packed(call.reservations, call.key.reservations, id)
end

local function get_live_id(call, person)
  local id = call.persons[person]
  if id == nil then
    id = redis.call('HGET', call.key.persons, person)
    call.persons[person] = id
  end
  return id
end

local function places_of(reservation)
  return #reservation - R.first_person + 1
end

local function remaining_of(quota)
  return quota[Q.capacity] - quota[Q.held] - quota[Q.confirmed] - quota[Q.returning]
end

-- Changing: every accepted change gets the next seq and an event.
local function record(call, event)
  call.events[#call.events + 1] = event
  call.seq = call.seq + 1
  return call.seq
end

local function push(map, name, value, other)
  local list = map[name]
  if not list then
    list = {}
    map[name] = list
  end
  list[#list + 1] = value
  if other then
    list[#list + 1] = other
  end
end

local function set_timer(call, quota_id, member, at)
  if call.last_at ~= at then -- most of a batch end at the same moment
    call.last_at, call.last_score = at, integer(at)
  end
  push(call.timers_added, quota_id, call.last_score, member)
  if not call.due_earlier[quota_id] or call.due_earlier[quota_id] > at then
    call.due_earlier[quota_id] = at
  end
end

-- When a given-back place can be claimed again; 0 = at once. The delay comes from the chain, which nobody outside can
-- know beforehand: a place that returns at a predictable moment is a place for touts.
local function give_back(call, quota_id, quota, places)
  if quota[Q.return_max] <= 0 then
    return 0
  end
  local draw = tonumber(string.sub(redis.sha1hex(call.chain .. ':' .. integer(call.seq)), 1, 12), 16) / 2 ^ 48
  local at = call.now + quota[Q.return_min]
    + math.floor(draw * (quota[Q.return_max] - quota[Q.return_min] + 1))
  quota[Q.returning] = quota[Q.returning] + places
  set_timer(call, quota_id, '+' .. integer(call.seq + 1) .. ':' .. integer(places), at)
  return at
end

-- Ends a live reservation: frees its persons, gives its places back, leaves a tombstone for replays.
local function end_reservation(call, id, reservation, state)
  local quota_id = reservation[R.quota]
  local quota = get_quota(call, quota_id)
  local places = places_of(reservation)
  if reservation[R.state] == HELD then
    quota[Q.held] = quota[Q.held] - places
    push(call.timers_removed, quota_id, id)
  else
    quota[Q.confirmed] = quota[Q.confirmed] - places
  end
  for index = R.first_person, #reservation do
    call.persons[reservation[index]] = false
    call.changed_persons[reservation[index]] = true
  end
  local returns_at = give_back(call, quota_id, quota, places)
  reservation[R.state] = state
  reservation[R.seq] = record(call, { 'e', state, id, quota_id, places, returns_at })
  call.changed_quotas[quota_id] = true
  call.changed_reservations[id] = true
  push(call.entombed, 'all', integer(call.now), id)
end

local function is_overdue(call, reservation)
  return reservation[R.state] == HELD and reservation[R.deadline] <= call.now
end

-- Expires the holds and returns the places of one quota that are due, at most `most`. Returns both counts.
-- The timers that ran earlier in this call are still stored, since nothing is written before the end: they come first
-- and are passed over, or a place would return twice.
local function run_timers(call, quota_id, most)
  local expired, returned = 0, 0
  local already = call.timers_run[quota_id] or 0
  call.timers_run[quota_id] = already
  call.due_stale[quota_id] = true
  local quota = get_quota(call, quota_id)
  if not quota then
    return expired, returned
  end
  local members = redis.call(
    'ZRANGEBYSCORE', call.key.timers .. quota_id, '-inf', integer(call.now), 'LIMIT', integer(already), integer(most)
  )
  call.timers_run[quota_id] = already + #members
  for _, member in ipairs(members) do
    local places = tonumber(string.match(member, '^%+%d+:(%d+)$'))
    push(call.timers_removed, quota_id, member) -- whatever it was for, its moment has passed
    if places then
      quota[Q.returning] = quota[Q.returning] - places
      call.changed_quotas[quota_id] = true
      record(call, { 'r', quota_id, places })
      returned = returned + 1
    else
      local reservation = get_reservation(call, member)
      -- It may have been ended earlier in this very batch.
      if reservation and is_overdue(call, reservation) then
        end_reservation(call, member, reservation, EXPIRED)
        expired = expired + 1
      end
    end
  end
  return expired, returned
end

-- The answer that describes a reservation.
local function describe(outcome, seq, reservation, state)
  return {
    outcome, seq, state or reservation[R.state], reservation[R.quota], places_of(reservation), reservation[R.deadline],
  }
end

-- Writing: each key once, in chunks that unpack() can take.
local function call_in_chunks(command, key, values, ...)
  if #values == 0 then
    return
  end
  if #values <= CHUNK and select('#', ...) == 0 then
    redis.call(command, key, unpack(values))
    return
  end
  local options = { ... }
  for first = 1, #values, CHUNK do
    local last = math.min(first + CHUNK - 1, #values)
    local arguments = { unpack(options) }
    for index = first, last do
      arguments[#arguments + 1] = values[index]
    end
    redis.call(command, key, unpack(arguments))
  end
end

local function write_hash(key, changed, current)
  local set, delete = {}, {}
  for field in pairs(changed) do
    local value = current[field]
    if value then
      set[#set + 1] = field
      set[#set + 1] = type(value) == 'table' and cmsgpack.pack(value) or value
    else
      delete[#delete + 1] = field
    end
  end
  call_in_chunks('HSET', key, set)
  call_in_chunks('HDEL', key, delete)
end

local function write_timers(call)
  for quota_id, members in pairs(call.timers_removed) do
    call_in_chunks('ZREM', call.key.timers .. quota_id, members)
  end
  for quota_id, scores in pairs(call.timers_added) do
    call_in_chunks('ZADD', call.key.timers .. quota_id, scores)
  end
  local earlier = {}
  for quota_id, at in pairs(call.due_earlier) do
    earlier[#earlier + 1] = integer(at)
    earlier[#earlier + 1] = quota_id
  end
  call_in_chunks('ZADD', call.key.due, earlier, 'LT')
  -- Where timers ran, the earliest one is another; elsewhere `due` may be early, which costs one look and no more.
  for quota_id in pairs(call.due_stale) do
    local first = redis.call('ZRANGE', call.key.timers .. quota_id, '0', '0', 'WITHSCORES')
    if first[2] then
      redis.call('ZADD', call.key.due, first[2], quota_id)
    else
      redis.call('ZREM', call.key.due, quota_id)
    end
  end
end

local function append_to_journal(call)
  local first_seq = call.seq - #call.events + 1
  local payload = cmsgpack.pack(call.events)
  call.chain = redis.sha1hex(
    call.chain .. ':' .. call.epoch .. ':' .. integer(first_seq) .. ':' .. integer(call.now) .. ':' .. payload
  )
  redis.call(
    'XADD', call.key.journal, call.epoch .. '-' .. integer(call.seq),
    'first', integer(first_seq), 'at', integer(call.now), 'chain', call.chain, 'events', payload
  )
  redis.call('HSET', call.key.meta, 'seq', integer(call.seq), 'chain', call.chain)
end

-- The journal goes first: an entry id that does not grow is the one thing that the server may still refuse.
local function commit(call)
  if #call.events > 0 then
    append_to_journal(call)
  end
  write_timers(call)
  write_hash(call.key.quotas, call.changed_quotas, call.quotas)
  write_hash(call.key.facts, call.changed_facts, call.facts)
  write_hash(call.key.reservations, call.changed_reservations, call.reservations)
  write_hash(call.key.persons, call.changed_persons, call.persons)
  call_in_chunks('ZADD', call.key.tombstones, call.entombed.all or {})
  call_in_chunks('HDEL', call.key.reservations, call.forgotten)
  call_in_chunks('ZREM', call.key.tombstones, call.forgotten)
end

local function reply(call, outcome, answers)
  return cmsgpack.pack({ outcome, tonumber(call.epoch), call.seq, call.now, answers })
end

-- Registers one command: `decide` answers one item; `prepare` may read for the whole batch at once.
local function register(command, decide, prepare, flags)
  redis.register_function({
    function_name = '@LIBRARY@_' .. command,
    flags = flags,
    callback = function(keys, args)
      local call = begin(keys, args)
      if is_fenced(call) then
        return reply(call, 'fenced', {})
      end
      if prepare then
        prepare(call)
      end
      local answers = {}
      for index, item in ipairs(call.items) do
        answers[index] = decide(call, item)
      end
      commit(call)
      return reply(call, 'done', answers)
    end,
  })
end

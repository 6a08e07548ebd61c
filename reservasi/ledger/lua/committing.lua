-- The end of every call: what was decided is written, each key once, and answered.

-- In chunks that unpack() can take.
local function call_in_chunks(command, key, values)
  for first = 1, #values, CHUNK do
    redis.call(command, key, unpack(values, first, math.min(first + CHUNK - 1, #values)))
  end
end

local function write_hash(key, changed, current, pack)
  if next(changed) == nil then
    return
  end
  local set, delete = {}, {}
  for field in pairs(changed) do
    local value = current[field]
    if value then
      set[#set + 1] = field
      set[#set + 1] = type(value) == 'table' and (pack or cmsgpack.pack)(value) or value
    else
      delete[#delete + 1] = field
    end
  end
  call_in_chunks('HSET', key, set)
  call_in_chunks('HDEL', key, delete)
end

-- When the earliest stored timer of a quota runs, or its holds end with its closing; 0 when it has no timer.
local function first_timer_at(call, quota)
  local from = quota[Q.digits]
  local first = redis.call('ZRANGEBYLEX', call.key.timers, '[' .. from, '(' .. from .. 'g', 'LIMIT', '0', '1')[1]
  return first and due_with_closing(quota, tonumber(string.sub(first, 7, TIMER_HEAD), 16)) or 0
end

-- `due` and the quota's record say the same time. Where timers ran, the earliest one is another; elsewhere the time may
-- be early, which costs one look and no more.
local function write_timers(call)
  call_in_chunks('ZADD', call.key.timers, call.timers_added)
  call_in_chunks('ZREM', call.key.timers, call.timers_removed)
  for quota_id in pairs(call.timers_run) do
    local quota = get_quota(call, quota_id)
    if quota then
      set_due(quota, first_timer_at(call, quota))
      call.changed_quotas[quota_id] = true
    end
    call.due_changed[quota_id] = true
  end
  local due, none_due = {}, {}
  for quota_id in pairs(call.due_changed) do
    local quota = get_quota(call, quota_id)
    if quota and quota[Q.due] > 0 then
      due[#due + 1] = integer(quota[Q.due])
      due[#due + 1] = quota_id
    else
      none_due[#none_due + 1] = quota_id
    end
  end
  call_in_chunks('ZADD', call.key.due, due)
  call_in_chunks('ZREM', call.key.due, none_due)
end

local function append_to_journal(call)
  local first_seq = call.seq - #call.events + 1
  call.events[0] = ARRAY[#call.events]
  local payload = table.concat(call.events, '', 0)
  call.chain = redis.sha1hex(
    call.chain .. ':' .. call.epoch .. ':' .. integer(first_seq) .. ':' .. integer(call.now) .. ':' .. payload
  )
  redis.call(
    'XADD', call.key.journal, call.epoch .. '-' .. integer(call.seq),
    'first', integer(first_seq), 'at', integer(call.now), 'chain', call.chain, 'events', payload,
    unpack(call.sealed and { 'sealed', call.sealed } or {})
  )
  redis.call('HSET', call.key.meta, 'seq', integer(call.seq), 'chain', call.chain)
end

-- The journal goes first: an entry id that does not grow is the one thing that the server may still refuse.
local function commit(call)
  if #call.events > 0 then
    append_to_journal(call)
  end
  if call.numbers_given then
    redis.call('HSET', call.key.meta, 'numbers', integer(call.numbers_given))
  end
  write_timers(call)
  write_hash(call.key.quotas, call.changed_quotas, call.quotas, pack_quota)
  write_hash(call.key.facts, call.changed_facts, call.facts)
  write_hash(call.key.names, call.changed_names, call.names)
  write_hash(call.key.openings, call.changed_openings, call.openings)
  call_in_chunks('HSET', call.key.reservations, call.held_reservations)
  write_hash(call.key.reservations, call.changed_reservations, call.reservations)
  call_in_chunks('HSET', call.key.persons, call.held_persons)
  write_hash(call.key.persons, call.changed_persons, call.persons)
  call_in_chunks('ZADD', call.key.tombstones, call.entombed)
  call_in_chunks('HDEL', call.key.reservations, call.forgotten)
  call_in_chunks('ZREM', call.key.tombstones, call.forgotten)
  is_deciding = false
end

local function reply(call, outcome, answers, deadlines)
  return cmsgpack.pack({ outcome, tonumber(call.epoch), call.seq, call.now, answers, deadlines })
end

-- Most commands decide one item after the other; `prepare` may read for the whole batch at once.
local function one_by_one(decide, prepare)
  return function(call)
    if prepare then
      prepare(call)
    end
    local answers = {}
    for index, item in ipairs(call.items) do
      answers[index] = decide(call, item)
    end
    return answers
  end
end

-- Registers one command: `decide` answers a batch.
local function register(command, decide, flags)
  redis.register_function({
    function_name = '@LIBRARY@_' .. command,
    flags = flags,
    callback = function(keys, args)
      local call = begin(keys, args)
      if is_fenced(call) then
        return reply(call, 'fenced', {})
      end
      local answers, deadlines = decide(call)
      commit(call)
      return reply(call, 'done', answers, deadlines)
    end,
  })
end

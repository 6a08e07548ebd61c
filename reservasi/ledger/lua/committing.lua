-- The end of every call: writes the decisions, each key once, and builds the reply.

local commit, check_types

do
  -- In chunks within the limit of unpack().
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

  -- When the earliest stored timer of a quota runs, or its holds end with its closing; 0 if it has no timer.
  local function first_timer_at(call, quota)
    local from = quota[Q.digits]
    local first = redis.call('ZRANGEBYLEX', call.key.timers, '[' .. from, '(' .. from .. 'g', 'LIMIT', '0', '1')[1]
    local at = first and (tonumber(string.sub(first, 7, TIMER_HEAD), 16) or call.now) -- a damaged one: checked now
    return at and due_with_closing(quota, at) or 0
  end

  -- `due` and the quota's record have the same time. After timers ran, another one is the earliest; otherwise it may
  -- be early, which costs only one check.
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

  -- A key of another type ends the call here: after the first write, nothing may fail.
  function check_types(call)
    local key = call.key
    if #call.timers_added + #call.timers_removed > 0 or next(call.timers_run) then
      redis.call('ZSCORE', key.timers, '')
    end
    if next(call.due_changed) or next(call.timers_run) then
      redis.call('ZSCORE', key.due, '')
    end
    if #call.entombed + #call.forgotten + #call.untombed > 0 then
      redis.call('ZSCORE', key.tombstones, '')
    end
    if next(call.changed_facts) then
      redis.call('HEXISTS', key.facts, '')
    end
    if next(call.changed_names) then
      redis.call('HEXISTS', key.names, '')
    end
    if next(call.changed_openings) then
      redis.call('HEXISTS', key.openings, '')
    end
  end

  -- Whether it was appended: not if the journal's end differs from `meta`.
  local function append_to_journal(call)
    local first_seq = call.seq - #call.events + 1
    call.events[0] = ARRAY[#call.events]
    local payload = table.concat(call.events, '', 0)
    call.chain = redis.sha1hex(
      call.chain .. ':' .. call.epoch .. ':' .. integer(first_seq) .. ':' .. integer(call.now) .. ':' .. payload
    )
    local added = redis.pcall(
      'XADD', call.key.journal, call.epoch .. '-' .. integer(call.seq),
      'first', integer(first_seq), 'at', integer(call.now), 'chain', call.chain, 'events', payload,
      unpack(call.sealed and { 'sealed', call.sealed } or {})
    )
    if type(added) == 'table' and added.err then
      return false
    end
    redis.call('HSET', call.key.meta, 'seq', integer(call.seq), 'chain', call.chain, 'at', at_of(call))
    note_position(call)
    return true
  end

  -- The journal is written first: the server may refuse only an entry id that does not grow. Then nothing
  -- else is written, and the result is false.
  function commit(call)
    if #call.events > 0 and not append_to_journal(call) then
      return false
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
    call_in_chunks('ZREM', call.key.tombstones, call.untombed)
    is_deciding = false
    return true
  end
end

local function reply(call, outcome, answers, deadlines)
  return cmsgpack.pack({ outcome, epoch_of(call), call.seq, call.now, answers, deadlines })
end

-- Most commands decide one item after another; `prepare` may read for the whole batch at once.
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

local MISTAKE = 'mistake: ' -- prefix of a caller's mistake, which is not damage: it ends the whole call

local ITEMS, answer_in_parts

do
  -- Splits a batch of most commands; claims have their own function.
  ITEMS = {
    count = function(call)
      return #call.items
    end,
    cut = function(call, first, last)
      return { unpack(call.items, first, last) }
    end,
  }

  -- The answer to an item that cannot be decided alone.
  local function undecided(call, fault)
    return { 'damaged', call.seq, type(fault) == 'table' and fault.err or tostring(fault), 1 }
  end

  -- Whether an error may be caused by stored data. The server's own errors are tables: of those, only a key of another
  -- type is.
  local function is_of_damage(fault)
    if type(fault) == 'table' then
      return string.find(tostring(fault.err), 'WRONGTYPE', 1, true) ~= nil
    end
    return not string.find(tostring(fault), MISTAKE, 1, true)
  end

  -- Put the answers of a part into their places. Answers to joins may refer to another one of their part.
  local function place_answers(of, first, last, answers, deadlines)
    for at = 1, last - first + 1 do
      local answer = answers[at]
      of.answers[first + at - 1] = not deadlines and type(answer) == 'number' and answers[answer] or answer
      of.deadlines[first + at - 1] = deadlines and deadlines[at] or 0
    end
  end

  -- Decides a batch that cannot be decided as a whole, and of which nothing is written, by halves, down to the one item
  -- that cannot be decided alone. Each part is written before the next one is decided.
  local function answer_part(of, first, last)
    local call = begin(of.keys, of.args)
    call.items, call.envelopes = of.parts.cut(of.whole, first, last)
    local is_decided, answers, deadlines = pcall(of.decide, call)
    if is_decided then
      of.is_refused = of.is_refused or not commit(call)
      of.call = call
      place_answers(of, first, last, answers, deadlines)
    elseif first == last then
      place_answers(of, first, first, { undecided(of.call, answers) }, { 0 })
    else
      local middle = math.floor((first + last) / 2)
      answer_part(of, first, middle)
      answer_part(of, middle + 1, last)
    end
  end

  function answer_in_parts(keys, args, decide, parts, fault)
    if not is_of_damage(fault) then
      error(fault, 0)
    end
    local whole = begin(keys, args)
    local of = {
      keys = keys, args = args, decide = decide, parts = parts, whole = whole, call = whole, answers = {}, deadlines = {},
    }
    answer_part(of, 1, parts.count(whole))
    return of
  end
end

-- Registers one command: `decide` answers a batch; `parts` splits one.
local function register(command, decide, flags, parts)
  local function decide_all(call)
    local answers, deadlines = decide(call)
    check_types(call)
    return answers, deadlines
  end
  redis.register_function({
    function_name = '@LIBRARY@_' .. command,
    flags = flags,
    callback = function(keys, args)
      local call = begin(keys, args)
      if is_fenced(call) then
        return reply(call, 'fenced', {})
      end
      local is_decided, answers, deadlines = pcall(decide_all, call)
      if is_decided then
        return commit(call) and reply(call, 'done', answers, deadlines) or reply(call, 'fenced', {})
      end
      local of = answer_in_parts(keys, args, decide_all, parts or ITEMS, answers)
      return of.is_refused and reply(of.call, 'fenced', {})
        or reply(of.call, 'done', of.answers, of.deadlines)
    end,
  })
end

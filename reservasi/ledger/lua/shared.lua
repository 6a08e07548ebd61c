-- Shared by all commands: keys, fence and changes. Stored values are read by reading.lua, changes are
-- written by committing.lua.
--
-- Keys, the same for every function, all under the program's hash tag (ledger/keys.py gives them in this order):
--   KEYS[1] meta          hash    epoch, seq, chain, run_id (after the mark of the stored form), numbers (of quotas),
--                                 fence (who fenced it), loading (who loads it, in which run of the server),
--                                 at (a copy of epoch, seq and chain)
--   KEYS[2] quotas        hash    quota -> counts in the order of QUOTA_HEAD, then packed limits (fields: Q and T below)
--   KEYS[3] facts         hash    quota -> packed office, service, channel, date, start, end; then values set by imports
--   KEYS[4] reservations  hash    reservation id -> packed record (fields: R below)
--   KEYS[5] persons       hash    person -> id of their live reservation
--   KEYS[6] due           zset    quota by the time of its earliest timer; may be early, never late
--   KEYS[7] timers        zset    all of score 0, ordered by their text: quota's number, time, purpose (timer_of)
--   KEYS[8] tombstones    zset    ended reservation by the time it ended; "=<number>": a retired quota's name
--   KEYS[9] journal       stream  one entry per batch, id <epoch>-<last seq>
--   KEYS[10] names        hash    quota's number -> quota
--   KEYS[11] openings     hash    opening -> packed record (fields: O in openings.lua)
--   KEYS[12] joined       list    prefix of an opening's lists of people who joined (members.lua)
--
-- Arguments:
--   ARGV[1] epoch      the ledger's epoch as known to the caller
--   ARGV[2] items      msgpack array, one positional array per item; for claims, one per field (ledger/wire/messages.py)
--   ARGV[3] envelopes  msgpack array of the claims' envelopes, which are copied to the journal; empty for other commands
--
-- Reply: msgpack array {batch outcome, epoch, seq, now_ms, answers, deadlines}, the last one for claims only. The batch
-- outcome is "done", or "fenced" without answers if the epoch is another, or if this run of the server is not
-- owned.
--
-- Nothing is written before every item of the batch is decided: Lua errors do not roll back. Items change tables in
-- memory, so that each sees the ones before it; commit() then writes each key once.
--
-- Any stored value may be damaged. Each is checked when it is unpacked (shapes.lua), and a record is compared with other
-- values that refer to it before it is changed (timers.lua). An item that needs a damaged one gets `damaged`: + which, and
-- 1 if the batch was decided in parts to find it (committing.lua). The other items of its batch get their usual answers.
-- Timers, sweep and retire skip damaged records of others: their places stay taken.

local KEY_COUNT = 12
local ARG_COUNT = 3
local CHUNK = 4000 -- arguments in one call; Lua's unpack() fails near 8000
local TIMERS_MAX = 2000 -- timers that one quota may have processed within one batch
local FORM = '4' -- of all stored values: a ledger of another form answers `fenced`
local FORMER_FORM = '3' -- of the previous release: owning such a ledger converts it; other forms cannot be owned
local TIMER_HEAD = 6 + 11 -- digits of a quota's number and of a time
local FREED_MAX = 5000 -- quotas whose last freed places are remembered
local FREED_SAID_MS = 11000 -- how long it is reported: longer than a view may lag and answer "sold out" (settings.py)
local FEW = 5 -- most places of one claim (model.APPLICANTS_MAX): if as many remain, no claim is sold out
local NUMBER_MAX = 2 ^ 24 - 1 -- quotas that a program may have in its lifetime: six hexadecimal digits in a timer

-- Positions of fields in tables. In the assembled library `T.capacity` is 1 etc. (ledger/lua/library.py), since
-- a claim reads some fifty of them.
local T = { -- of a quota's terms
  capacity = 1, opens_at = 2, closes_at = 3, cancel_until = 4, hold = 5, return_min = 6, return_max = 7, closed = 8,
}
local QUOTA_TERMS = 8
local Q = {
  terms = 1, packed_terms = 2, -- never changed in place: shared by quotas with the same terms
  held = 3, confirmed = 4, returning = 5, version = 6,
  number = 7, -- stands for the quota in reservations and timers
  due = 8, -- the time in `due`, 0 if it is not there
  digits = 9, -- the number in the form of a timer
  packed_number = 10, -- and of a reservation
  packed_due = 11, -- as it is stored
  stored = 12, -- the stored text before changes
  id = 13,
}
local QUOTA_HEAD = '>i4i4i4i4i4i8' -- held, confirmed, returning, version, number, due
local QUOTA_HEAD_BYTES = 5 * 4 + 8
local QUOTA_NUMBER_AT = 4 * 4 + 1
local DUE = '>i8'
local KNOWN_MAX = 5000 -- cached values that were computed from stored texts
local KEPT_MAX = 2000 -- unpacked quotas that are kept between calls
local R = {
  state = 1, number = 2, fingerprint = 3, deadline = 4, held_seq = 5,
  later = 6, -- seq of its last change, counted from held_seq
  reference = 7, first_person = 8,
}
local HELD, CONFIRMED, RELEASED, EXPIRED, CANCELLED, RETIRED = 'h', 'c', 'r', 'x', 'k', 't'

local function integer(number)
  return string.format('%d', number)
end

-- The run id in `meta` if this run of the server is owned and the stored form is the one read here.
-- Read once in each run of the server, since it costs as much as a claim: another run has another Lua state.
local run_id

local function server_run_id()
  run_id = run_id or FORM .. ':' .. string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
  return run_id
end

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- Quotas by their stored text, so that busy ones are not unpacked in every call. The stored text is the key: a text
-- written by another call, server or version is not here. `is_deciding` is set from the start of a call to its commit:
-- if one was aborted in between, cached quotas have changes that are not stored, and all are dropped.
local kept, kept_count, is_deciding = {}, 0, false

local UNREADABLE_SEQ = -1

-- An integer stored as text; nil if it is damaged.
local function number_from(stored)
  return string.find(stored, '^%d+$') and #stored <= 15 and tonumber(stored) or nil
end

-- The state of one call: values read, changes, and events.
local function begin(keys, args)
  if is_deciding then
    kept, kept_count = {}, 0
  end
  is_deciding = true
  if #keys ~= KEY_COUNT or #args ~= ARG_COUNT then
    error('expected ' .. KEY_COUNT .. ' keys and ' .. ARG_COUNT .. ' arguments, got ' .. #keys .. ' and ' .. #args)
  end
  if not TEXT[0] then
    prepare_packing()
  end
  local key = {
    meta = keys[1], quotas = keys[2], facts = keys[3], reservations = keys[4], persons = keys[5], due = keys[6],
    timers = keys[7], tombstones = keys[8], journal = keys[9], names = keys[10],
    openings = keys[11], joined = keys[12],
  }
  local meta = redis.pcall('HMGET', key.meta, 'epoch', 'seq', 'chain', 'run_id')
  if meta.err then
    meta = { false, tostring(UNREADABLE_SEQ), false, false } -- of another type
  end
  return {
    key = key,
    items = cmsgpack.unpack(args[2]), envelopes = args[3],
    believed_epoch = args[1],
    epoch = meta[1] or '0', seq = number_from(meta[2] or '0') or UNREADABLE_SEQ, chain = meta[3] or '', run_id = meta[4],
    now = now_ms(),
    quotas = {}, reservations = {}, persons = {}, facts = {}, names = {}, -- read; false if the key has no such field
    changed_quotas = {}, changed_reservations = {}, changed_persons = {}, changed_facts = {}, changed_names = {},
    held_reservations = {}, held_persons = {}, -- fields and values, written before changed ones
    timers_added = {}, timers_removed = {}, timers_run = {}, due_changed = {},
    entombed = {}, forgotten = {}, untombed = {}, events = {},
    openings = {}, changed_openings = {}, opening_ids = {}, members = {},
    damaged = {}, -- ids of quotas, reservations and openings that cannot be read; false in the tables above
  }
end

local function epoch_of(call)
  return number_from(call.epoch) or 0
end

-- The positions of ledgers, by the keys of their `meta`, as last written or verified by this server's Lua state.
local is_at_end, note_position, at_of

do
  local POSITIONS_MAX = 10000
  local positions, positions_count = {}, 0

  -- Epoch, seq and chain as one text, which is stored as a copy: if they differ, the journal decides.
  function at_of(call)
    return call.epoch .. '-' .. integer(call.seq) .. '-' .. call.chain
  end

  function note_position(call)
    local known = positions[call.key.meta]
    if not known then
      if positions_count == POSITIONS_MAX then
        positions, positions_count = {}, 0
      end
      known = {}
      positions[call.key.meta], positions_count = known, positions_count + 1
    end
    known.epoch, known.seq, known.chain = call.epoch, call.seq, call.chain
  end

  local function chain_of(fields)
    for at = 1, #fields, 2 do
      if fields[at] == 'chain' then
        return fields[at + 1]
      end
    end
  end

  -- Whether the journal ends at the position in `meta`; if it has no entry of that epoch, whether the copy agrees.
  local function verify(call)
    local id = call.epoch .. '-' .. integer(call.seq)
    local entries = redis.pcall('XRANGE', call.key.journal, id, '+', 'COUNT', '2')
    if entries.err then
      return false
    end
    if #entries > 0 then
      return #entries == 1 and entries[1][1] == id and chain_of(entries[1][2]) == call.chain
    end
    local at = redis.call('HGET', call.key.meta, 'at')
    return not at or at == at_of(call)
  end

  -- Whether the position in `meta` is right: a damaged one would break the journal.
  function is_at_end(call)
    local known = positions[call.key.meta]
    if known and known.chain == call.chain and known.seq == call.seq and known.epoch == call.epoch then
      return true
    end
    if call.seq == UNREADABLE_SEQ or not verify(call) then
      call.epoch = '0' -- no caller accepts it
      return false
    end
    note_position(call)
    return true
  end
end

local function is_fenced(call)
  return not call.run_id or call.run_id ~= server_run_id() or not is_at_end(call) or call.epoch ~= call.believed_epoch
end

-- Owns the ledger under a new epoch, at a position.
local function take_up(call, epoch, seq, chain)
  call.epoch, call.seq, call.chain = integer(epoch), seq, chain
  redis.call(
    'HSET', call.key.meta, 'epoch', call.epoch, 'seq', integer(seq), 'chain', chain, 'run_id', server_run_id(),
    'at', at_of(call)
  )
  note_position(call)
end

-- The answer to an item that needs a damaged value.
local function damaged(call, what)
  return { 'damaged', call.seq, what }
end

-- When places were freed in a nearly sold-out quota; under the key of all quotas: when the program's ledger
-- was owned or loaded. A front that has not read this yet may still answer "sold out" for a moment, so that
-- answers about such a place are delayed until no front does: a repeated request then gets the same
-- answer from every front, and the next person to claim the place is not refused. Only this run of the server remembers;
-- before its first call, places count as freed at that call.
local note_freed, just_freed_at

do
  local freed, freed_count, freed_any

  local function forget_freed(call)
    freed, freed_count, freed_any = {}, 0, call.now
  end

  function note_freed(call, what)
    if not freed or freed_count == FREED_MAX then
      forget_freed(call)
    end
    freed_count = freed_count + (freed[what] and 0 or 1)
    freed[what] = call.now
  end

  -- When places were last freed in the quota, if that must be reported; else nil.
  function just_freed_at(call, quota_id)
    if not freed then
      forget_freed(call)
    end
    local at, of_quota, of_program = freed_any, freed[quota_id], freed[call.key.quotas]
    if of_quota and of_quota > at then
      at = of_quota
    end
    if of_program and of_program > at then
      at = of_program
    end
    return call.now - at <= FREED_SAID_MS and at or nil
  end
end

-- An answer that names a quota, with `freed_at` at its end for FREED_SAID_MS after places were freed there.
local function say_freed(call, answer)
  answer[7] = just_freed_at(call, answer[4])
  return answer
end

-- Every accepted change gets the next seq and an event.
local function record_packed(call, event)
  local events, seq = call.events, call.seq + 1
  events[#events + 1] = event
  call.seq = seq
  return seq
end

local function record(call, event)
  return record_packed(call, cmsgpack.pack(event))
end

-- Actor and reason of a change: the last field of an event, nil if neither is given.
local function by_of(actor, reason)
  if actor ~= '' or reason ~= '' then
    return { actor, reason }
  end
end

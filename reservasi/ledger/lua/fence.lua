-- fence: stop selling from this ledger until it is owned again; its content stays.
--
-- May be called on any ledger. The last caller may load it, unless it was owned meanwhile.
--
-- Item: {token}, which names the caller
-- Outcomes, in order of precedence:
--   fenced   + epoch, chain
-- Example: {'t...'} -> {'fenced', 0, 1, ''}

-- The mark of the stored form is kept, so that a ledger of another form cannot be owned afterwards.
local function form_of(call)
  if not call.run_id then
    return FORM
  end
  return string.match(call.run_id, '^(%w*):') or ''
end

local function fence(call, item)
  if call.seq == UNREADABLE_SEQ then
    redis.call('UNLINK', call.key.meta) -- it may have another type, and its content is lost
    call.epoch, call.seq, call.chain = '0', 0, ''
  end
  redis.call('HSET', call.key.meta, 'fence', item[1], 'run_id', form_of(call) .. ':')
  return { 'fenced', call.seq, epoch_of(call), call.chain }
end

redis.register_function({
  function_name = '@LIBRARY@_fence',
  flags = { 'allow-oom' },
  callback = function(keys, args)
    local call = begin(keys, args)
    local answer = fence(call, call.items[1])
    return reply(call, 'done', { answer })
  end,
})

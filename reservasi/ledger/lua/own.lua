-- own: let this run of the server sell, after its ledger has been compared with the records.
--
-- The only command except fence and load that may be called on a ledger that is not owned.
--
-- Item: {epoch, seq, chain, new_epoch}; the first three are the ledger's position as read by the caller (0, 0, '': empty)
-- Outcomes, in order of precedence:
--   moved    another position, not empty as given, half loaded, unknown form, or new_epoch is not new: + epoch, chain
--   owned    from now on, under new_epoch
-- Example: {0, 0, '', 1} -> {'owned', 0}

local function is_empty(call)
  local key = call.key
  return redis.call('EXISTS', key.quotas, key.reservations, key.persons, key.openings, key.journal) == 0
end

local function has_other_form(call)
  local form = call.run_id and (string.match(call.run_id, '^(%w*):') or '')
  return form and form ~= FORM and form ~= FORMER_FORM
end

local function own(call, item)
  local epoch, seq, chain, new_epoch = item[1], item[2], item[3], item[4]
  local actual_epoch = epoch_of(call)
  local is_where_seen = actual_epoch == epoch and call.seq == seq and call.chain == chain
  local is_readable = not has_other_form(call) and redis.call('HEXISTS', call.key.meta, 'loading') == 0
  if not is_where_seen or not is_readable or new_epoch <= actual_epoch or (epoch == 0 and not is_empty(call)) then
    return { 'moved', call.seq, actual_epoch, call.chain }
  end
  take_up(call, new_epoch, seq, chain)
  redis.call('HDEL', call.key.meta, 'fence')
  note_freed(call, call.key.quotas)
  return { 'owned', call.seq }
end

redis.register_function({
  function_name = '@LIBRARY@_own',
  flags = { 'allow-oom' },
  callback = function(keys, args)
    local call = begin(keys, args)
    local answer = own(call, call.items[1])
    return reply(call, 'done', { answer })
  end,
})

-- Reads stored values: each is unpacked and checked once per call; quotas are kept between calls.

-- Reads several fields of one hash at once, before anything else is read from it.
local function preload(cache, key, fields)
  local count = #fields
  for first = 1, count, CHUNK do
    local last = math.min(first + CHUNK - 1, count)
    local values = redis.call('HMGET', key, unpack(fields, first, last))
    for index = first, last do
      cache[fields[index]] = values[index - first + 1]
    end
  end
end

local function distinct(values)
  local seen, found = {}, {}
  for _, value in ipairs(values) do
    if not seen[value] then
      seen[value] = true
      found[#found + 1] = value
    end
  end
  return found
end

-- An unpacked value; false if there is none, or if it is damaged: then call.damaged has it.
local function read_packed(call, cache, key, field, is_sound)
  local value = cache[field]
  if value == nil then
    value = redis.call('HGET', key, field)
    cache[field] = value
  end
  if value and type(value) == 'string' then
    value = unpack_one(value)
    if not is_sound(value) then
      value, call.damaged[field] = false, true
    end
    cache[field] = value
  end
  return value
end

-- Unpacked terms by their packed form, so that the equal terms of an opening's quotas are unpacked once.
local known_terms, known_count = {}, 0

local function terms_of(packed)
  local terms = known_terms[packed]
  if not terms then
    if known_count == KNOWN_MAX then
      known_terms, known_count = {}, 0
    end
    terms = unpack_one(packed)
    if not are_terms(terms) then
      return nil
    end
    known_terms[packed], known_count = terms, known_count + 1
  end
  return terms
end

-- A quota's number in the forms of a timer and of a reservation.
local number_texts, number_texts_count = {}, 0

local function texts_of(number)
  local texts = number_texts[number]
  if not texts then
    if number_texts_count == KNOWN_MAX then
      number_texts, number_texts_count = {}, 0
    end
    texts = { string.format('%06x', number), cmsgpack.pack(number) }
    number_texts[number], number_texts_count = texts, number_texts_count + 1
  end
  return texts
end

local function keep(stored, quota)
  if kept_count == KEPT_MAX then
    kept, kept_count = {}, 0
  end
  kept_count = kept_count + (kept[stored] and 0 or 1)
  kept[stored] = quota
  quota[Q.stored] = stored
end

-- The id of the quota of a number; false if the number is unknown.
local function name_of(call, number)
  local id = call.names[number]
  if id == nil then
    id = redis.call('HGET', call.key.names, number)
    call.names[number] = id
  end
  return id
end

-- A quota's record; nil if it is damaged, or another quota's.
local function read_quota(call, id, stored)
  if #stored <= QUOTA_HEAD_BYTES then
    return nil
  end
  local held, confirmed, returning, version, number, due, rest = struct.unpack(QUOTA_HEAD, stored)
  local packed_terms = string.sub(stored, rest)
  local terms = terms_of(packed_terms)
  if not are_quota(terms, held, confirmed, returning, version, number, due) or name_of(call, number) ~= id then
    return nil
  end
  local texts = texts_of(number)
  return {
    terms, packed_terms, held, confirmed, returning, version, number, due, texts[1], texts[2], struct.pack(DUE, due),
    stored, id,
  }
end

-- False if it is damaged.
local function unpack_quota(call, id, stored)
  local quota = kept[stored]
  if quota and quota[Q.id] == id then
    return quota
  end
  quota = read_quota(call, id, stored)
  if not quota then
    call.damaged[id] = true
    return false
  end
  keep(stored, quota)
  return quota
end

local function pack_quota(quota)
  local before = quota[Q.stored]
  if before and kept[before] == quota then
    kept[before], kept_count = nil, kept_count - 1
  end
  local stored = COUNT[quota[Q.held]] .. COUNT[quota[Q.confirmed]] .. COUNT[quota[Q.returning]]
    .. COUNT[quota[Q.version]] .. COUNT[quota[Q.number]] .. quota[Q.packed_due] .. quota[Q.packed_terms]
  keep(stored, quota)
  return stored
end

local function set_due(quota, at)
  quota[Q.due], quota[Q.packed_due] = at, struct.pack(DUE, at)
end

local function get_quota(call, id)
  local quota = call.quotas[id]
  if quota == nil then
    quota = redis.call('HGET', call.key.quotas, id)
    quota = quota and unpack_quota(call, id, quota)
    call.quotas[id] = quota
  end
  return quota
end

-- Names that this server's Lua state has not read are read together.
local function preload_quotas(call, ids)
  local quotas, numbers = call.quotas, {}
  preload(quotas, call.key.quotas, ids)
  for _, id in ipairs(ids) do
    local stored = quotas[id]
    if stored and not kept[stored] and #stored > QUOTA_HEAD_BYTES then
      numbers[#numbers + 1] = struct.unpack('>i4', stored, QUOTA_NUMBER_AT)
    end
  end
  preload(call.names, call.key.names, numbers)
  for _, id in ipairs(ids) do
    local stored = quotas[id]
    quotas[id] = stored and unpack_quota(call, id, stored)
  end
end

local function get_reservation(call, id)
  return read_packed(call, call.reservations, call.key.reservations, id, is_reservation)
end

local function get_facts(call, id)
  return read_packed(call, call.facts, call.key.facts, id, are_facts)
end

local function quota_id_of(call, reservation)
  return name_of(call, reservation[R.number])
end

-- For commands whose items start with a reservation id.
local function prepare_by_id(call)
  local ids, numbers, quotas = {}, {}, {}
  for index, item in ipairs(call.items) do
    ids[index] = item[1]
  end
  preload(call.reservations, call.key.reservations, ids)
  local persons = {}
  for _, id in ipairs(ids) do
    local reservation = get_reservation(call, id)
    numbers[#numbers + 1] = reservation and reservation[R.number] or nil
    for at = R.first_person, reservation and #reservation or 0 do
      persons[#persons + 1] = reservation[at]
    end
  end
  preload(call.persons, call.key.persons, persons)
  numbers = distinct(numbers)
  preload(call.names, call.key.names, numbers)
  for _, number in ipairs(numbers) do
    quotas[#quotas + 1] = call.names[number] or nil
  end
  preload_quotas(call, distinct(quotas))
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

local function seq_of(reservation)
  return reservation[R.held_seq] + reservation[R.later]
end

local function remaining_of(quota)
  return quota[Q.terms][T.capacity] - quota[Q.held] - quota[Q.confirmed] - quota[Q.returning]
end

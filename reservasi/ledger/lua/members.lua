-- The people who joined an opening, for the commands of openings: each person is recognised, and counted once.
--
--   joined:<opening>:before, joined:<opening>:late   list   people who joined before the draw, and after it. Its first
--     element is their number, each other one a page: entries of the same length, one per person in the order of joining
--
-- A person is PERSON_BITS of a hash of their ticket id. The lowest bits give the page, the others are the
-- entry: the more pages, the shorter the entries. A page is split for every PAGE_PEOPLE who join (linear hashing), so
-- that no call does more than its people's share. Two people are treated as one if all bits are equal.

local BEFORE, LATE = 'before', 'late'
local person_of, members_key, get_members, is_member, add_members

do
  local PERSON_BITS = 34
  local PAGE_PEOPLE = 14 -- on average: an entry of three bytes costs a seventh of a byte for being in a list
  local POWER = {} -- of two
  for bits = 0, PERSON_BITS do
    POWER[bits] = 2 ^ bits
  end
  local ENTRY_FORMAT = { '>I1', '>I2', '>I3', '>I4', '>I5' }

  function person_of(ticket)
    return tonumber(string.sub(redis.sha1hex(ticket), 1, 9), 16) % POWER[PERSON_BITS]
  end

  function members_key(call, id, which)
    return call.key.joined .. ':' .. id .. ':' .. which
  end

  -- How many people a list counts. A damaged one, whose pages cannot be found, is dropped as if it were lost:
  -- count_people never reports fewer than before, and the holder of a ticket keeps its number.
  local function count_of(key)
    local stored = redis.pcall('LINDEX', key, '0')
    if not stored then
      return 0
    end
    local count = type(stored) == 'string' and number_from(stored)
    local pages = count and math.max(math.ceil(count / PAGE_PEOPLE), 1)
    if pages and redis.call('LINDEX', key, integer(pages)) and not redis.call('LINDEX', key, integer(pages + 1)) then
      return count
    end
    redis.call('PEXPIREAT', key, '1') -- at once
    return 0
  end

  -- The state of the people who joined before, or late: read once per call.
  function get_members(call, id, which)
    local members = call.members[id .. which]
    if not members then
      local key = members_key(call, id, which)
      local count = count_of(key)
      members = { key = key, count = count, pages = math.max(math.ceil(count / PAGE_PEOPLE), 1), bits = 0 }
      call.members[id .. which] = members
    end
    while POWER[members.bits + 1] <= members.pages do
      members.bits = members.bits + 1
    end
    return members
  end

  -- A page's number, and how many of a person's bits give it.
  local function page_of(members, person)
    local bits = members.bits
    local whole = POWER[bits]
    local page = person % whole
    if page >= members.pages - whole then
      return page, bits
    end
    return person % (whole + whole), bits + 1 -- this page was split
  end

  local function entry_length(bits)
    return math.ceil((PERSON_BITS - bits) / 8)
  end

  local function entry_of(person, bits)
    return struct.pack(ENTRY_FORMAT[entry_length(bits)], (person - person % POWER[bits]) / POWER[bits])
  end

  local function has_entry(page, entry)
    local length, at = #entry, 0
    repeat
      at = string.find(page, entry, at + 1, true)
    until not at or (at - 1) % length == 0
    return at ~= nil
  end

  function is_member(members, person)
    if members.count == 0 then
      return false
    end
    local page, bits = page_of(members, person)
    return has_entry(redis.call('LINDEX', members.key, integer(page + 1)), entry_of(person, bits))
  end

  -- Split the next page: each entry's next bit says whether it stays, and all entries become as short as possible.
  local function cut_page(members)
    local page = members.pages - POWER[members.bits]
    local stored, bits = redis.call('LINDEX', members.key, integer(page + 1)), members.bits
    local before, after = ENTRY_FORMAT[entry_length(bits)], ENTRY_FORMAT[entry_length(bits + 1)]
    local length, kept = entry_length(bits), { [0] = {}, {} }
    for at = 1, #stored - length + 1, length do
      local rest = struct.unpack(before, stored, at)
      local side = kept[rest % 2]
      side[#side + 1] = struct.pack(after, (rest - rest % 2) / 2)
    end
    redis.call('LSET', members.key, integer(page + 1), table.concat(kept[0]))
    redis.call('RPUSH', members.key, table.concat(kept[1]))
    members.pages = members.pages + 1
    if POWER[members.bits + 1] <= members.pages then
      members.bits = members.bits + 1
    end
  end

  -- Count the people who are not members yet. Returns whether there were any.
  function add_members(members, people)
    local before = members.count
    for at = 1, #people do
      local person = people[at]
      if members.count == 0 then
        redis.call('RPUSH', members.key, '0', '')
      end
      local page, bits = page_of(members, person)
      local number, entry = integer(page + 1), entry_of(person, bits)
      local stored = redis.call('LINDEX', members.key, number)
      local odd = #stored % #entry -- surplus bytes of a damaged page
      if odd > 0 then
        stored = string.sub(stored, 1, -odd - 1)
      end
      if not has_entry(stored, entry) then
        redis.call('LSET', members.key, number, stored .. entry)
        members.count = members.count + 1
        if members.count > members.pages * PAGE_PEOPLE then
          cut_page(members)
        end
      end
    end
    if members.count > before then
      redis.call('LSET', members.key, '0', integer(members.count))
    end
    return members.count > before
  end
end

-- Packs the frequent values by hand: the same bytes as cmsgpack, but faster, since that traverses
-- every table twice. Below are, by length, the headers of a text and of an array; long ones are rare.

local COUNT_MAX = 4095 -- counts whose packed form is cached
local TEXT, ARRAY, BYTE, COUNT = {}, {}, {}, {}

local function long_head(short_kind, long_kind)
  return {
    __index = function(_, length)
      if length < 65536 then
        return struct.pack('>BI2', short_kind, length)
      end
      return struct.pack('>BI4', long_kind, length)
    end,
  }
end

-- At the first call: during loading, a library can access only `redis`.
local function prepare_packing()
  for length = 0, 255 do
    TEXT[length] = length < 32 and string.char(0xa0 + length) or string.char(0xd9, length)
  end
  for length = 0, 15 do
    ARRAY[length] = string.char(0x90 + length)
  end
  for byte = 0, 255 do
    BYTE[byte] = string.char(byte)
  end
  setmetatable(TEXT, long_head(0xda, 0xdb))
  setmetatable(ARRAY, long_head(0xdc, 0xdd))
  setmetatable(COUNT, { __index = function(known, count)
    local packed = struct.pack('>i4', count)
    if count >= 0 and count <= COUNT_MAX then
      known[count] = packed
    end
    return packed
  end })
end

local packed_at, packed_time -- most of a batch end at the same moment

local function pack_time(at)
  if packed_at ~= at then
    packed_at, packed_time = at, cmsgpack.pack(at)
  end
  return packed_time
end

local packed_from, packed_head -- of 256 seqs in a row, all but the last byte is the same

local function pack_seq(seq)
  if seq < 256 then
    return cmsgpack.pack(seq)
  end
  local last = seq % 256
  if packed_from ~= seq - last then
    packed_from, packed_head = seq - last, string.sub(cmsgpack.pack(seq), 1, -2)
  end
  return packed_head .. BYTE[last]
end

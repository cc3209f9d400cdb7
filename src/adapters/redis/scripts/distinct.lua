-- Adds values to the distinct count of a window. While there are few of them they are kept themselves, all in one key;
-- beyond that each window is a HyperLogLog, and the key keeps the sizes, where a read finds them with everything else.
-- KEYS[1]  few: version byte, number of the window as a double, how many are of the window before (byte), their values
--          and those of the window, four bytes each; many: version byte, number of the window, sizes of the window and
--          of both windows as floats
-- KEYS[2]  the HyperLogLog of this window, KEYS[3] of the one before, KEYS[4] of the one after
-- ARGV     number of the window, time to live (ms), then the values, four bytes each
local FEW = 16
local epoch, ttl = tonumber(ARGV[1]), ARGV[2]
local function is_foreign(answer)
  return type(answer) == 'table' and answer.err and
    (string.find(answer.err, 'WRONGTYPE') or string.find(answer.err, 'INVALIDOBJ'))
end
-- Adds values to a HyperLogLog; answers an error that is one.
local function add(key, values)
  if #values == 0 then return end
  local added = redis.pcall('PFADD', key, unpack(values))
  if is_foreign(added) then
    redis.call('DEL', key)
    added = redis.pcall('PFADD', key, unpack(values))
  end
  if type(added) == 'table' then return added end
  redis.call('PEXPIRE', key, ttl)
end
local values = { unpack(ARGV, 3) }
local stored, previous, current, many
local old = redis.pcall('GET', KEYS[1])
if type(old) == 'string' and #old >= 10 and string.byte(old, 1) == 1 then
  local _, number, before = struct.unpack('<BdB', old)
  local known = (#old - 10) / 4
  if #old == 17 then
    many, stored = true, number
  elseif known == math.floor(known) and before <= known then
    stored, previous, current = number, {}, {}
    for i = 1, known do
      table.insert(i <= before and previous or current, string.sub(old, 7 + 4 * i, 10 + 4 * i))
    end
  end
end
-- Too old, too far ahead (a clock that was set back) or no number: the windows begin anew.
if not (stored and math.abs(epoch - stored) <= 1) then
  many, stored, previous, current = false, epoch, {}, {}
end
if not many then
  if epoch == stored + 1 then stored, previous, current = epoch, current, {} end
  local into, known = epoch == stored and current or previous, {}
  for _, value in ipairs(into) do known[value] = true end
  for _, value in ipairs(values) do
    if not known[value] then
      known[value] = true
      table.insert(into, value)
    end
  end
  if #previous <= FEW and #current <= FEW then
    local text = struct.pack('<BdB', 1, stored, #previous) .. table.concat(previous) .. table.concat(current)
    redis.call('SET', KEYS[1], text, 'PX', ttl)
    return 1
  end
  local late = epoch ~= stored
  local failed = add(late and KEYS[2] or KEYS[3], previous) or add(late and KEYS[4] or KEYS[2], current)
  if failed then return failed end
  if late then
    local sizes = { redis.pcall('PFCOUNT', KEYS[4]), redis.pcall('PFCOUNT', KEYS[4], KEYS[2]) }
    for _, size in ipairs(sizes) do if type(size) == 'table' then return size end end
    redis.call('SET', KEYS[1], struct.pack('<Bdff', 1, stored, sizes[1], sizes[2]), 'PX', ttl)
    return 1
  end
else
  local failed = add(KEYS[2], values)
  if failed then return failed end
  -- Late by one window: the sizes follow with the next value of the current one.
  if stored == epoch + 1 then return 1 end
end
local size = redis.pcall('PFCOUNT', KEYS[2])
if type(size) == 'table' then
  if not is_foreign(size) then return size end
  redis.call('DEL', KEYS[2])
  size = #values
end
local both = redis.pcall('PFCOUNT', KEYS[2], KEYS[3])
if type(both) == 'table' then
  if not is_foreign(both) then return both end
  redis.call('DEL', KEYS[3])
  both = size
end
redis.call('SET', KEYS[1], struct.pack('<Bdff', 1, epoch, size, both), 'PX', ttl)
return 1

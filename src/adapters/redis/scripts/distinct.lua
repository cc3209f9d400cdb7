-- Adds values to the distinct count of a window and keeps the sizes where a read finds them with everything else.
-- KEYS[1]  the sizes: version byte, number of the window as a double, current window and both windows as floats
-- KEYS[2]  the HyperLogLog of this window
-- KEYS[3]  the HyperLogLog of the window before
-- ARGV     number of the window, time to live (ms), then the values
local epoch = tonumber(ARGV[1])
local function is_foreign(answer)
  return type(answer) == 'table' and answer.err and
    (string.find(answer.err, 'WRONGTYPE') or string.find(answer.err, 'INVALIDOBJ'))
end
local function add()
  return redis.pcall('PFADD', KEYS[2], unpack(ARGV, 3))
end
local added = add()
if is_foreign(added) then
  redis.call('DEL', KEYS[2])
  added = add()
end
if type(added) == 'table' then return added end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
local old = redis.pcall('GET', KEYS[1])
if type(old) == 'string' and #old == 17 and string.byte(old, 1) == 1 then
  local _, stored = struct.unpack('<Bd', old)
  -- Late by one window: the sizes follow with the next value of the current one.
  if stored == epoch + 1 then return 1 end
end
local current = redis.pcall('PFCOUNT', KEYS[2])
if type(current) == 'table' then
  if not is_foreign(current) then return current end
  redis.call('DEL', KEYS[2])
  current = #ARGV - 2
end
local both = redis.pcall('PFCOUNT', KEYS[2], KEYS[3])
if type(both) == 'table' then
  if not is_foreign(both) then return both end
  redis.call('DEL', KEYS[3])
  both = current
end
redis.call('SET', KEYS[1], struct.pack('<Bdff', 1, epoch, current, both), 'PX', ARGV[2])
return 1

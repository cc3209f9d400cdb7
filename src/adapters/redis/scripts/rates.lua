-- Adds decayed counters to a key. The same arithmetic as Rates::merged, where no update of another node can get lost.
-- KEYS[1]  the counters: version byte, moment as a double, one float per half-life, little-endian
-- ARGV     moment (ms), time to live (ms), time to live while there is no failure (ms), how far ahead a
--          stored moment may be (ms), then pairs of half-life (ms) and count at the moment
local n = (#ARGV - 4) / 2
local at, ahead_max = tonumber(ARGV[1]), tonumber(ARGV[4])
local counts = {}
for i = 1, n do counts[i] = tonumber(ARGV[4 + 2 * i]) end
-- A key of another type, or anything but counters, is hostile or foreign: it counts as missing and is overwritten.
local old = redis.pcall('GET', KEYS[1])
if type(old) == 'string' and #old == 9 + 4 * n and string.byte(old, 1) == 1 then
  local fields = { struct.unpack('<Bd' .. string.rep('f', n), old) }
  local before = fields[2]
  if before > -9e15 and before < 9e15 then
    if before > at + ahead_max then before = at end
    local newest = math.max(before, at)
    for i = 1, n do
      local half_life, kept = tonumber(ARGV[3 + 2 * i]), fields[2 + i]
      if not (kept >= 0 and kept <= 1e9) then kept = 0 end
      local sum = counts[i] * 2 ^ ((at - newest) / half_life) + kept * 2 ^ ((before - newest) / half_life)
      counts[i] = math.min(sum, 1e9)
    end
    at = newest
  end
end
local ttl = ARGV[3]
-- The first half of the counters are failures, the others attempts.
for i = 1, math.floor((n + 1) / 2) do
  if counts[i] >= 0.001 then ttl = ARGV[2] end
end
redis.call('SET', KEYS[1], struct.pack('<Bd' .. string.rep('f', n), 1, at, unpack(counts)), 'PX', ttl)
return 1

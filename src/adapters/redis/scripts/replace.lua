-- Replaces a profile if it is still the one that was read: answers 1, or what is there instead.
-- KEYS[1]  the profile
-- ARGV     the end of the value that was read ('' for none), the new value, time to live (ms)
local current = redis.pcall('GET', KEYS[1])
-- A key of another type reads as missing and is overwritten.
if type(current) ~= 'string' then current = '' end
-- The end of a value is its MAC: no two contents share it.
if string.sub(current, -12) ~= ARGV[1] then return current end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1

-- Counts logins and their values in a hash of bounded size.
-- KEYS[1]  the hash: 'logins' and one field per value
-- ARGV     most fields, time to live (ms), logins, then pairs of value and count
local function add(field, more)
  local answer = redis.pcall('HINCRBY', KEYS[1], field, more)
  if type(answer) ~= 'table' then return end
  if string.find(answer.err, 'WRONGTYPE') then
    redis.call('DEL', KEYS[1])
  elseif not (string.find(answer.err, 'not an integer') or string.find(answer.err, 'overflow')) then
    return answer
  end
  redis.call('HSET', KEYS[1], field, more)
end
local failed = add('logins', ARGV[3])
if failed then return failed end
for i = 4, #ARGV, 2 do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 or redis.call('HLEN', KEYS[1]) <= tonumber(ARGV[1]) then
    failed = add(ARGV[i], ARGV[i + 1])
    if failed then return failed end
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1

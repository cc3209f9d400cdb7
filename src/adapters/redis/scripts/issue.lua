-- Keeps a ticket, marked with the history of this server: a failover begins another one.
-- KEYS[1]  the ticket
-- ARGV     its sealed content, time to live (ms)
local info = redis.pcall('INFO', 'replication')
if type(info) == 'table' and info.err then return info end
local history = string.match(info, 'master_replid:(%x+)')
if not history then return redis.error_reply('NOREPLID the server does not say which history it has') end
redis.call('SET', KEYS[1], 'i' .. history .. ARGV[1], 'PX', ARGV[2], 'NX')
return 1

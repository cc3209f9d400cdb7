-- Redeems a ticket: marks it as used and answers what it was, and how many replicas should know.
-- KEYS[1]  the ticket: 'i', 40 digits of the server's history, the sealed content; or 'r' once it is used up
local value = redis.pcall('GET', KEYS[1])
if type(value) ~= 'string' then return { 'unknown', '', 0 } end
if string.byte(value, 1) ~= 105 then return { 'redeemed', '', 0 } end
local info = redis.pcall('INFO', 'replication')
if type(info) == 'table' and info.err then return info end
redis.call('SET', KEYS[1], 'r', 'KEEPTTL')
local replicas = tonumber(string.match(info, 'connected_slaves:(%d+)')) or 0
-- From before a failover: the former master may have given it away already.
if string.sub(value, 2, 41) ~= string.match(info, 'master_replid:(%x+)') then return { 'stale', '', replicas } end
return { 'ticket', string.sub(value, 42), replicas }

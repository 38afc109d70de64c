-- Lease members that are due: no other process gets them before the lease expires.
-- KEYS: one shard of the due queue.  ARGV: now, how many at most, when the lease expires.
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, member in ipairs(due) do redis.call('ZADD', KEYS[1], 'XX', ARGV[3], member) end
return due

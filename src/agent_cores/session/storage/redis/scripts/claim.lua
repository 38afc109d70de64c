-- Take members that are due, so that nobody else does before the lease ends.
-- KEYS: one shard of the due queue.  ARGV: now, how many at most, the end of the lease.
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, member in ipairs(due) do redis.call('ZADD', KEYS[1], 'XX', ARGV[3], member) end
return due

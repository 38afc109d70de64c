-- Read a session that came due, and store when it is due again.
-- KEYS: header.  ARGV: now, when the lease expires, the incarnation that came due.
-- Replies the header's fields in the order of `header_fields` (a local that commands.py puts before this
-- text), or false if that incarnation is gone.
local held = redis.call('HMGET', KEYS[1], 'incarnation', 'expires_at')
if held[1] ~= ARGV[3] then return false end
if not held[2] then redis.call('HDEL', KEYS[1], 'due_at')
elseif (tonumber(held[2]) or 0) > tonumber(ARGV[1]) then redis.call('HSET', KEYS[1], 'due_at', held[2])
else redis.call('HSET', KEYS[1], 'due_at', ARGV[2]) end
return redis.call('HMGET', KEYS[1], unpack(header_fields))

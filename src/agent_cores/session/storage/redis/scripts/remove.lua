-- Remove a session from lists, each only if nobody else has claimed the entry since.
-- KEYS: the lists, then as many claims.  ARGV: member, the token of the claim.
local lists = #KEYS / 2
for i = 1, lists do
  if redis.call('HGET', KEYS[lists + i], 'token') == ARGV[2] then
    redis.call('ZREM', KEYS[i], ARGV[1])
    redis.call('DEL', KEYS[lists + i])
  end
end

-- Add a session to lists that share a hash tag, or move it up in those that it is in.
-- KEYS: the lists; with a token, as many claims follow.  ARGV: 'add', 'move' or 'claim', member, score,
-- the session's end ('' is never, 'kept': the lists do not expire), and optionally a token: only the
-- last writer to claim an entry may remove it. '' releases the claim.
-- Replies for 'add' whether the entry is so old that a reader may remove it as stale.
local mode, member, score, ends, token = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local lists = token and #KEYS / 2 or #KEYS
for i = 1, lists do
  local list, claim = KEYS[i], token and KEYS[lists + i]
  local is_new = redis.call('EXISTS', list) == 0
  if mode == 'add' then redis.call('ZADD', list, 'GT', score, member)
  elseif mode == 'move' then redis.call('ZADD', list, 'XX', 'GT', score, member) end
  if token == '' then redis.call('DEL', claim)
  elseif token then
    redis.call('HSET', claim, 'token', token)
    redis.call('PEXPIRE', claim, 3600000)
  end
  if ends == '' then redis.call('PERSIST', list)
  elseif ends ~= 'kept' then  -- GT would leave a new list, which has no expiry yet, without one
    local erase_at = string.format('%.0f', tonumber(ends) + 3600000)
    if is_new then redis.call('PEXPIREAT', list, erase_at)
    else redis.call('PEXPIREAT', list, erase_at, 'GT') end
  end
end
return mode == 'add' and tonumber(score) < tonumber(redis.call('TIME')[1]) * 1000 - 5000

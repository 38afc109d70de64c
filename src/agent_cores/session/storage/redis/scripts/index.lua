-- Add sessions to lists that share a hash tag, or move them up in those that they are in.
-- KEYS: the lists; with a token, as many claims follow.  ARGV: 'add', 'move' or 'claim'; the end of the
-- session, or the latest one ('' is never, 'kept': the lists do not expire); a token, or '-': only the
-- last writer to claim an entry may remove it, and '' releases the claim; then each score and member.
-- Replies for 'add' whether an entry is so old that a reader may remove it as stale.
local mode, ends, token = ARGV[1], ARGV[2], ARGV[3]
local claimed = token ~= '-'
local lists = claimed and #KEYS / 2 or #KEYS
for i = 1, lists do
  local list, claim = KEYS[i], claimed and KEYS[lists + i]
  local is_new = redis.call('EXISTS', list) == 0
  if mode == 'add' then redis.call('ZADD', list, 'GT', unpack(ARGV, 4))
  elseif mode == 'move' then redis.call('ZADD', list, 'XX', 'GT', unpack(ARGV, 4)) end
  if token == '' then redis.call('DEL', claim)
  elseif claimed then
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
local oldest = tonumber(ARGV[4])
for i = 6, #ARGV, 2 do oldest = math.min(oldest, tonumber(ARGV[i])) end
return mode == 'add' and oldest < tonumber(redis.call('TIME')[1]) * 1000 - 5000

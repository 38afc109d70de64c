-- Put a session into lists that share a hash tag, or move it up in those that it is in.
-- KEYS: the lists.  ARGV: 'add' or 'move', member, score, the session's end ('' is never, 'kept': the
-- lists do not expire).
local mode, member, score, ends = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
for _, list in ipairs(KEYS) do
  local is_new = redis.call('EXISTS', list) == 0
  if mode == 'add' then redis.call('ZADD', list, 'GT', score, member)
  else redis.call('ZADD', list, 'XX', 'GT', score, member) end
  if ends == '' then redis.call('PERSIST', list)
  elseif ends ~= 'kept' then  -- GT would leave a new list, which has no expiry yet, without one
    local erase_at = string.format('%.0f', tonumber(ends) + 3600000)
    if is_new then redis.call('PEXPIREAT', list, erase_at)
    else redis.call('PEXPIREAT', list, erase_at, 'GT') end
  end
end

-- Correct entries of a list, each only while its score is within bounds: otherwise a later writer has set
-- it.
-- KEYS: the list.  ARGV: member, lowest score, highest score, new score ('' removes), and so on.
for i = 1, #ARGV, 4 do
  local member, lowest, highest, score = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local held = tonumber(redis.call('ZSCORE', KEYS[1], member) or 'nan')
  if held >= tonumber(lowest) and held <= tonumber(highest) then
    if score == '' then redis.call('ZREM', KEYS[1], member)
    else redis.call('ZADD', KEYS[1], 'XX', score, member) end
  end
end

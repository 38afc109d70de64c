-- The next members that are in all the lists, highest score first.
-- KEYS: lists that share a hash tag; the smallest is scanned.  ARGV: the score to continue from ('+inf':
-- the top), how many are wanted, how many may be scanned. All members at that score are in the reply:
-- only the caller knows which of them it has had.
-- Replies member, score, member, score, …; and the member and score where the scan stopped, or false.
local bound, wanted, walk = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local scanned, smallest = KEYS[1], math.huge
if #KEYS > 1 then
  for _, list in ipairs(KEYS) do
    local size = redis.call('ZCARD', list)
    if size < smallest then scanned, smallest = list, size end
  end
else
  walk = wanted
end

local function in_all(member)
  for _, list in ipairs(KEYS) do
    if list ~= scanned and not redis.call('ZSCORE', list, member) then return false end
  end
  return true
end

local found, last_member, last_score = {}, false, false
local function take(entries, at_most)
  for i = 1, #entries, 2 do
    if #found >= 2 * at_most then return true end
    last_member, last_score = entries[i], entries[i + 1]
    if in_all(last_member) then
      found[#found + 1] = last_member
      found[#found + 1] = last_score
    end
  end
  return #entries >= 2 * walk
end

local from = bound
if bound ~= '+inf' then
  take(redis.call('ZREVRANGEBYSCORE', scanned, bound, bound, 'WITHSCORES'), math.huge)
  from = '(' .. bound
end
local below = redis.call('ZREVRANGEBYSCORE', scanned, from, '-inf', 'WITHSCORES', 'LIMIT', 0, walk)
local stopped = take(below, wanted + #found / 2)
return {found, stopped and {last_member, last_score}}

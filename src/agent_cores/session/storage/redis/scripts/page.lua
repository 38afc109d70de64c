-- The next members of a list, highest score first, that stand in all the other lists too.
-- KEYS: lists that share a hash tag; the smallest is walked.  ARGV: the score to go on from ('+inf': the
-- top), how many are wanted, how many may be walked. All members at that very score are answered, since
-- the caller alone knows which of them it has seen.
-- Answers: member, score, member, score, …; and the member and score where the walk broke off, or false.
local bound, wanted, walk = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local walked, smallest = KEYS[1], math.huge
if #KEYS > 1 then
  for _, list in ipairs(KEYS) do
    local size = redis.call('ZCARD', list)
    if size < smallest then walked, smallest = list, size end
  end
else
  walk = wanted
end

local function in_all(member)
  for _, list in ipairs(KEYS) do
    if list ~= walked and not redis.call('ZSCORE', list, member) then return false end
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
  take(redis.call('ZREVRANGEBYSCORE', walked, bound, bound, 'WITHSCORES'), math.huge)
  from = '(' .. bound
end
local below = redis.call('ZREVRANGEBYSCORE', walked, from, '-inf', 'WITHSCORES', 'LIMIT', 0, walk)
local broke_off = take(below, wanted + #found / 2)
return {found, broke_off and {last_member, last_score}}

-- Read one session, at one instant.
-- KEYS: header, messages, ids, and updated where it may exist (see apply.lua); replies 'updated' if that
-- key is needed. ARGV[1]: the request as msgpack, see ReadRequest in records.py.
-- Replies the header's fields in the order of `header_fields` (a local that commands.py puts before this
-- text), the context, the window and the known messages (each an entry's id and its record,
-- alternating), the removable messages, how many messages and ids there are, and the time if requested.
local header, messages, ids, updated = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local request = cmsgpack.unpack(ARGV[1])
local stored, indexed = redis.call('XLEN', messages), redis.call('HLEN', ids)
local all_streamed = stored == indexed  -- unless messages were updated
if not (all_streamed or updated) then return 'updated' end
if not all_streamed then stored = stored + redis.call('ZCARD', updated) end

local function body_size(record)  -- the body is the third line
  return #record - record:find('\n', record:find('\n', 1, true) + 1, true)
end

local function score(id)  -- the bound of a range by score, from one of stream ids
  return (id == '+' or id == '-') and id .. 'inf' or id:sub(1, -3)
end

local function merged(streamed, others, count, forward)  -- the first ones of both lists
  local found, i, j = {}, 1, 1
  while #found < count and (streamed[i] or others[j]) do
    local seq = others[j] and tonumber(others[j + 1])
    if streamed[i] and (not seq or (tonumber(streamed[i][1]:sub(1, -3)) < seq) == forward) then
      found[#found + 1] = streamed[i]
      i = i + 1
    else
      found[#found + 1] = {string.format('%.0f-0', seq), {'m', others[j]}}
      j = j + 2
    end
  end
  return found
end

local function entries(from, to, count, forward)  -- stream entries, at most `count`
  local order = forward and '' or 'REV'
  local streamed = redis.call('X' .. order .. 'RANGE', messages, from, to, 'COUNT', count)
  if all_streamed then return streamed end
  local others = redis.call('Z' .. order .. 'RANGEBYSCORE', updated, score(from), score(to),
    'WITHSCORES', 'LIMIT', 0, count)
  return merged(streamed, others, count, forward)
end

local function entry_at(seq) return entries(seq .. '-0', seq .. '-0', 1, true)[1] end

local function context()
  if request.whole_context then return redis.call('HGETALL', header) end
  if request.context then return redis.call('HMGET', header, unpack(request.context)) end
  return {}
end

local function named()  -- the seqs of the named messages, as text, ascending
  local seqs = {}
  for _, id in ipairs(request.by_id or {}) do
    local seq = redis.call('HGET', ids, id)
    if seq then seqs[#seqs + 1] = {seq, id} end
  end
  for _, seq in ipairs(request.by_seq or {}) do seqs[#seqs + 1] = {seq} end
  table.sort(seqs, function(one, other) return tonumber(one[1]) < tonumber(other[1]) end)
  return seqs
end

local function named_window()
  local found, bytes = {}, 0
  for _, one in ipairs(named()) do
    local entry = entry_at(one[1])
    if entry then
      found[#found + 1] = entry[1]
      found[#found + 1] = entry[2][2]
      bytes = bytes + body_size(entry[2][2])
      if bytes > request.max_bytes and #found > 2 then break end
    end
  end
  return found
end

local function window()
  if request.bodies then return named_window() end
  local found, bytes, step, from = {}, 0, 16, request.from
  local forward = request.forward or false
  while from and #found < 2 * request.limit and bytes <= request.max_bytes do
    local wanted = math.min(step, request.limit - #found / 2)
    local chunk = entries(from, forward and '+' or '-', wanted, forward)
    for _, entry in ipairs(chunk) do
      local record = entry[2][2]
      bytes = bytes + body_size(record)
      if request.capped and bytes > request.max_bytes then return found end
      found[#found + 1] = entry[1]
      found[#found + 1] = record
    end
    from = #chunk == wanted and '(' .. chunk[#chunk][1]
    step = math.min(step * 2, 1024)
  end
  return found
end

local function known()
  local found = {}
  for _, id in ipairs(request.ids or {}) do
    local seq = redis.call('HGET', ids, id)
    local entry = seq and entry_at(seq)
    if entry then
      found[#found + 1] = entry[1]
      found[#found + 1] = entry[2][2]
    end
  end
  return found
end

local function name_of(entry) return {entry[1], entry[2][2]:match('^[^\n]*')} end

local function removable_by_name()
  local found = {}
  for _, one in ipairs(named()) do
    if one[2] then
      found[#found + 1] = {one[1] .. '-0', one[2]}
    else
      local entry = entry_at(one[1])
      if entry then found[#found + 1] = name_of(entry) end
    end
  end
  return found
end

local function oldest()
  local found, from = {}, '-'
  local most = math.min(stored - (request.keep or 0), request.at_most)
  while from and #found < most do
    local wanted = math.min(100, most - #found)
    local chunk = entries(from, request.before, wanted, true)
    for _, entry in ipairs(chunk) do found[#found + 1] = name_of(entry) end
    from = #chunk == wanted and '(' .. chunk[#chunk][1]
  end
  return found
end

local function removable()
  if request.bodies then return {} end
  if request.before then return oldest() end
  if request.by_id or request.by_seq then return removable_by_name() end
  local found, from = {}, request.last
  while from and #found < request.at_most do
    local wanted = math.min(100, request.at_most - #found)
    local chunk = entries(from, request.first, wanted, false)
    for _, entry in ipairs(chunk) do found[#found + 1] = name_of(entry) end
    from = #chunk == wanted and '(' .. chunk[#chunk][1]
  end
  return found
end

return {redis.call('HMGET', header, unpack(header_fields)), context(), window(), known(), removable(),
  stored, indexed, request.timed and redis.call('TIME') or false}

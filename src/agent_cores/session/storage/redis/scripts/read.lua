-- Read one session, at one instant.
-- KEYS: header, messages, ids.  ARGV[1]: the request as msgpack, see ReadRequest in records.py.
-- Replies the header's fields in the order of `header_fields` (a local that commands.py puts before this
-- text), the context, the window and the known messages (each an entry's id and its record,
-- alternating), the removable messages, the sizes of the two other keys, and the time if requested.
local header, messages, ids = KEYS[1], KEYS[2], KEYS[3]
local request = cmsgpack.unpack(ARGV[1])

local function body_size(record)  -- the body is the third line
  return #record - record:find('\n', record:find('\n', 1, true) + 1, true)
end

local function context()
  if request.whole_context then return redis.call('HGETALL', header) end
  if request.context then return redis.call('HMGET', header, unpack(request.context)) end
  return {}
end

local function window()
  local found, bytes, step, from = {}, 0, 16, request.from
  while from and #found < 2 * request.limit and bytes <= request.max_bytes do
    local wanted = math.min(step, request.limit - #found / 2)
    local chunk
    if request.forward then chunk = redis.call('XRANGE', messages, from, '+', 'COUNT', wanted)
    else chunk = redis.call('XREVRANGE', messages, from, '-', 'COUNT', wanted) end
    for _, entry in ipairs(chunk) do
      local record = entry[2][2]
      found[#found + 1] = entry[1]
      found[#found + 1] = record
      bytes = bytes + body_size(record)
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
    local entry = seq and redis.call('XRANGE', messages, seq, seq)[1]
    if entry then
      found[#found + 1] = entry[1]
      found[#found + 1] = entry[2][2]
    end
  end
  return found
end

local function removable()
  local found, from = {}, request.last
  while from and #found < request.at_most do
    local wanted = math.min(100, request.at_most - #found)
    local chunk = redis.call('XREVRANGE', messages, from, request.first, 'COUNT', wanted)
    for _, entry in ipairs(chunk) do
      found[#found + 1] = {entry[1], entry[2][2]:match('^[^\n]*')}
    end
    from = #chunk == wanted and '(' .. chunk[#chunk][1]
  end
  return found
end

return {redis.call('HMGET', header, unpack(header_fields)), context(), window(), known(), removable(),
  redis.call('XLEN', messages), redis.call('HLEN', ids), request.timed and redis.call('TIME') or false}

-- Write one session: check the guards, number the messages, write. Replies false, with nothing written,
-- if the session must be read again: only apply_change, in Python, refuses a change.
-- KEYS: header, messages, ids, and updated where it may exist: while a cluster moves a slot, a key that
-- does not exist makes Redis refuse. Replies 'updated', with nothing written, if that key is needed.
-- ARGV[1]: the write as msgpack, see Write in writes.py.
-- Instants are text and '' is never: Lua loses digits when it prints a number this large.
local header, messages, ids, updated = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local call = redis.call
local write = cmsgpack.unpack(ARGV[1])
local append, remove, update = write.append or {}, write.remove or {}, write.update
local guards = write.guard_fields or {}
local held = call('HMGET', header, 'last_seq', 'message_count', 'expires_at', 'last_active_at',
  'listed_at', 'revision', unpack(guards))

local function in_steps(list, act)  -- unpack() is limited to some thousands of values
  for first = 1, #list, 4000 do act(unpack(list, first, math.min(first + 3999, #list))) end
end

local function take_out(seq)  -- a message from where it is
  if call('XDEL', messages, seq .. '-0') == 0 and updated then
    call('ZREMRANGEBYSCORE', updated, seq, seq)
  end
end

local function erased_at(ends)  -- to the minute, so that few appends have to move it
  return string.format('%.0f', math.ceil(tonumber(ends) / 60000) * 60000 + 300000)
end

local function is_past(instant)  -- by now: the write may have waited since it was sent
  if not instant then return false end
  local late = 0
  if write.sent then
    local now = call('TIME')
    late = math.max(now[1] * 1000 + now[2] / 1000 - write.sent - 100, 0)
  end
  return tonumber(instant) <= write.at + late
end

if held[1] then
  if write.absent or write.erased then return false end
  for i = 1, #guards do
    if (held[i + 6] or '') ~= write.guard_values[i] then return false end
  end
  if write.at and (is_past(held[3]) or is_past(write.valid_until)) then return false end
elseif write.erased then  -- the rest of a session whose header is gone
  call('UNLINK', messages, ids, updated)
  return {}
elseif not write.absent
  or call('XLEN', messages) + call('HLEN', ids) + call('ZCARD', updated) > 0 then
  return false
end

local count, ended = tonumber(held[2] or 0), held[3]
local indexed, streamed = 0, 0
if held[1] then indexed, streamed = call('HLEN', ids), call('XLEN', messages) end
if not updated and indexed ~= streamed then return 'updated' end
if write.delete then
  call('UNLINK', unpack(KEYS))
  return {}
end
if write.create then
  -- An empty stream would continue from its last seq.
  if held[1] or call('EXISTS', messages) == 1 then call('UNLINK', unpack(KEYS)) end
  count, held = 0, {'0', '0', ended, '0', '0', '1'}
elseif #append + #remove > 0 or update then  -- a session that lost a key is not written to
  if count ~= indexed then return false end
  if count ~= streamed and count ~= streamed + call('ZCARD', updated) then return false end
end
local expires_anew = count == 0 or not ended or update

if write.later then  -- others may have appended it since the session was read
  local entries = call('XRANGE', messages, write.later[1], write.later[2])
  if #entries > 0 and #remove == 0 then return false end  -- a removal raises the revision
  for _, entry in ipairs(entries) do
    remove[#remove + 1] = {entry[1]:sub(1, -3), entry[2][2]:match('^[^\n]*')}
  end
end

local going = {}  -- ids that this write removes are free again
for _, message in ipairs(remove) do going[message[2]] = true end

local seq = tonumber(held[1])
for _, message in ipairs(append) do
  if message[1] == 0 then message[1] = seq + 1 elseif message[1] <= seq then return false end
  seq = message[1]
end
if write.last_seq then seq = math.max(seq, write.last_seq) end

if #append == 1 and #remove == 0 then  -- the most frequent case, in one command
  if call('HSETNX', ids, append[1][2], seq) == 0 then return false end
else
  for _, message in ipairs(append) do
    if count > 0 and not going[message[2]] and call('HEXISTS', ids, message[2]) == 1 then
      return false
    end
  end
  for _, message in ipairs(remove) do
    take_out(message[1])
    call('HDEL', ids, message[2])
  end
  for _, message in ipairs(append) do call('HSET', ids, message[2], message[1]) end
end
for _, message in ipairs(append) do call('XADD', messages, message[1] .. '-0', 'm', message[3]) end
if update then
  take_out(update[1])
  call('ZADD', updated, update[1], update[2])
end
count = count + #append - #remove

local ends, active, listed = ended or '', held[4], held[5]
if write.active_at then
  if tonumber(write.active_at) > tonumber(active) then active = write.active_at end
  if write.revised or tonumber(active) - tonumber(listed) >= 1000 then listed = active end
end
if write.ends then
  local later = ends ~= '' and (write.ends == '' or tonumber(write.ends) > tonumber(ends))
  if write.exactly or later then ends = write.ends end
end

if write.drop then in_steps(write.drop, function(...) call('HDEL', header, ...) end) end
if write.set then in_steps(write.set, function(...) call('HSET', header, ...) end) end
if not write.create then
  call('HSET', header, 'last_seq', seq, 'message_count', count, 'last_active_at', active,
    'listed_at', listed, 'expires_at', ends)
end
if ends ~= '' then
  local erase_at = erased_at(ends)
  if expires_anew or erase_at ~= erased_at(ended) then
    local has_one_key = write.create and #append == 0
    for _, key in ipairs(has_one_key and {header} or KEYS) do call('PEXPIREAT', key, erase_at) end
  end
else
  call('HDEL', header, 'expires_at')
  if ended then for _, key in ipairs(KEYS) do call('PERSIST', key) end end
end
local tags = listed ~= held[5] and call('HGET', header, 'tags')
return {seq, count, ends, active, listed, held[6], tags}

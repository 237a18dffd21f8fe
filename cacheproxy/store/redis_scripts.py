"""What happens to an entry in Redis, each in one script: whole, on one slot, and the same when it is sent twice.

``KEYS[1]`` is a shard's hash tag; redis_layout.py tells what lies under it. A row of the catalogue is an id, its size
and its exact key, with a character 1 between them.
"""

from __future__ import annotations

from typing import Final

from cacheproxy.store.redis_link import Script

_COMMON: Final = r"""
local base, call = KEYS[1], redis.call

local function put_into(command, name, life, ...)  -- a set lives as long as the longest of what is in it; 0: for ever
  local left = call('PTTL', name)
  call(command, name, ...)
  if life == 0 then call('PERSIST', name)
  elseif left == -2 or (left >= 0 and left < life) then call('PEXPIRE', name, life) end
end

local function tell(writer, most, kind, id, key, scope)
  local said = {'MAXLEN', '~', most, '*', 'w', writer, 'k', kind, 'i', id, 'K', key, 'S', scope}
  call('XADD', base..':log', unpack(said))
  if kind ~= 'put' and kind ~= 'vector' and call('EXISTS', base..':went') == 1 then
    call('XADD', base..':went', unpack(said))
  end
end

local function row_of(id)
  local row = call('ZRANGEBYLEX', base..':c', '['..id..'\1', '('..id..'\2', 'LIMIT', 0, 1)[1]
  if row then
    local size, key = string.match(row, '\1(%d+)\1(%x*)$')
    return row, size, key
  end
end

local function unlist(id)  -- takes an entry from everywhere; its key and scope, or nothing where there was none
  local told = call('HMGET', base..':e:'..id, 'f', 'r')
  local row, size, key = row_of(id)
  local scope, tags = string.match(told[1] or '', '^(%x*) ?(.*)$')
  call('DEL', base..':e:'..id)
  call('ZREM', base..':u', id)
  call('ZREM', base..':w', id)
  call('ZREM', base..':x', id)
  for tag in string.gmatch(tags, '%x+') do call('SREM', base..':t:'..tag, id) end
  if told[2] and told[2] ~= id then call('SREM', base..':g:'..told[2], id) end
  if not row then return nil end
  call('ZREM', base..':c', row)
  call('ZREM', base..':k:'..key, id)
  call('HINCRBY', base..':meta', 'entries', -1)
  call('HINCRBY', base..':meta', 'bytes', -size)
  return key, scope
end

local function drop(id, writer, most)
  local key, scope = unlist(id)
  if not key then return 0 end
  tell(writer, most, 'gone', id, key, scope)
  return 1
end
"""


def _script(text: str) -> Script:
    return Script(_COMMON + text)


FIND: Final = Script(r"""
local found = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1]..':k:'..ARGV[1], 0, -1)) do
  local told = redis.call('HMGET', KEYS[1]..':e:'..id, 'p', 'x')
  if told[1] then
    found[#found + 1] = id
    found[#found + 1] = told[1]
    found[#found + 1] = told[2] or ''
  end
end
return found
""")
"""The entries under a key: id, bytes and other expiry of each. Arguments: the key."""

PUT: Final = _script(r"""
local id, key, payload, meta, finds, size, expires, life, created, now, samples, writer, most = unpack(ARGV)
local scope, tags = string.match(finds, '^(%x*) ?(.*)$')
call('HINCRBY', base..':meta', 'bytes', 0)  -- refused where memory is full; once something was deleted nothing is
local before, old_scope = unlist(id)
if before and before ~= key then tell(writer, most, 'gone', id, before, old_scope) end
life = tonumber(life)
local entry = base..':e:'..id
call('HSET', entry, 'p', payload, 'm', meta, 'f', finds)
if life > 0 then call('PEXPIRE', entry, life) end
call('ZADD', base..':c', 0, id..'\1'..size..'\1'..key)
call('ZADD', base..(expires == 'inf' and ':w' or ':u'), now, id)
call('ZADD', base..':x', expires, id)
put_into('ZADD', base..':k:'..key, life, created, id)
for tag in string.gmatch(tags, '%x+') do put_into('SADD', base..':t:'..tag, life, id) end
call('HINCRBY', base..':meta', 'entries', 1)
call('HINCRBY', base..':meta', 'bytes', size)
tell(writer, most, 'put', id, key, scope)
for _, surplus in ipairs(call('ZRANGE', base..':k:'..key, 0, -1 - samples)) do drop(surplus, writer, most) end
return call('HMGET', base..':meta', 'entries', 'bytes')
""")
"""Store an entry in place of its older self, and keep the newest few under its key. The shard's sums."""

DROP: Final = _script(r"""
local dropped = 0
for place = 3, #ARGV do dropped = dropped + drop(ARGV[place], ARGV[1], ARGV[2]) end
return dropped
""")
"""Delete entries; how many there were. Arguments: writer, length of the log, ids."""

DROP_DAMAGED: Final = _script(r"""
if call('HGET', base..':e:'..ARGV[3], 'p') ~= ARGV[4] then return 0 end
return drop(ARGV[3], ARGV[1], ARGV[2])
""")
"""Delete an entry if its bytes are these: not another that has taken its id since."""

SWEEP: Final = _script(r"""
local dropped = 0
for _, id in ipairs(call('ZRANGEBYSCORE', base..':x', '-inf', ARGV[3], 'LIMIT', 0, ARGV[4])) do
  dropped = dropped + drop(id, ARGV[1], ARGV[2])
end
return dropped
""")
"""Delete what has expired, those included that Redis let go by itself. Arguments: writer, length, now, how many."""

OLDEST: Final = _script(r"""
local oldest, ranked = {}, call('ZRANGE', base..':u', 0, ARGV[1] - 1, 'WITHSCORES')
for place = 1, #ranked, 2 do
  local _, size = row_of(ranked[place])
  oldest[#oldest + 1] = ranked[place]
  oldest[#oldest + 1] = ranked[place + 1]
  oldest[#oldest + 1] = size or '0'
end
return oldest
""")
"""The least recently used entries: id, time and size of each. Arguments: how many."""

TOUCH: Final = _script(r"""
local done = base..':done:'..ARGV[1]
if tonumber(call('GET', done) or 0) >= tonumber(ARGV[2]) then return 0 end
call('SET', done, ARGV[2], 'EX', ARGV[3])
for place = 5, #ARGV, 2 do
  local id = ARGV[place]
  if call('EXISTS', base..':e:'..id) == 1 then
    call('HINCRBY', base..':e:'..id, 'h', ARGV[place + 1])
    call('ZADD', base..':u', 'XX', 'GT', ARGV[4], id)
    call('ZADD', base..':w', 'XX', 'GT', ARGV[4], id)
  end
end
return 1
""")
"""Count hits. 1, or 0 where they were. Arguments: who, their batch's number, seconds to know it, when, ids and hits."""

EXPIRE: Final = _script(r"""
local id, expires, life, writer, most = unpack(ARGV)
local entry, row, _, key = base..':e:'..id, row_of(id)
if not row or call('EXISTS', entry) == 0 then return 0 end
life = tonumber(life)
call('HSET', entry, 'x', expires)
if life > 0 then call('PEXPIRE', entry, life) else call('PERSIST', entry) end
call('ZADD', base..':x', expires, id)
local from, to = base..':w', base..':u'
if expires == 'inf' then from, to = to, from end
local used = call('ZSCORE', from, id)
if used then
  call('ZADD', to, used, id)
  call('ZREM', from, id)
end
local scope, tags = string.match(call('HGET', entry, 'f') or '', '^(%x*) ?(.*)$')
put_into('ZADD', base..':k:'..key, life, 'XX', 0, '')
for tag in string.gmatch(tags, '%x+') do put_into('SADD', base..':t:'..tag, life, id) end
tell(writer, most, 'expiry', id, key, scope)
return 1
""")
"""Give an entry another time to expire. 1, or 0 where it is gone."""

PLACE: Final = _script(r"""
local id, vector, root, embedding, writer, most = unpack(ARGV)
local stored = call('HGET', base..':meta', 'embedding')
if stored ~= embedding then return stored or '' end
local entry = base..':e:'..id
if call('EXISTS', entry) == 0 then return 0 end
local before = call('HGET', entry, 'r')
call('HSET', entry, 'v', vector, 'r', root)
if before and before ~= id then call('SREM', base..':g:'..before, id) end
if root ~= id then put_into('SADD', base..':g:'..root, call('PTTL', entry) < 0 and 0 or call('PTTL', entry), id) end
local _, _, key = row_of(id)
tell(writer, most, 'vector', id, key or '', string.match(call('HGET', entry, 'f') or '', '^%x*'))
return 1
""")
"""Keep a vector beside its entry. 1, or 0 where the entry is gone, or the name of the embeddings that are stored."""

KEEP_ROOT: Final = _script(r"""
local id, root = unpack(ARGV)
local entry = base..':e:'..id
if call('EXISTS', entry) == 0 or root == id or call('HSETNX', entry, 'r', root) == 0 then return 0 end
put_into('SADD', base..':g:'..root, call('PTTL', entry) < 0 and 0 or call('PTTL', entry), id)
return 1
""")
"""Keep the root of an entry that has none yet. Arguments: id, root."""

FORGET_VECTORS: Final = _script(r"""
for _, id in ipairs(ARGV) do
  local entry = base..':e:'..id
  call('HDEL', entry, 'v')
  if call('HGET', entry, 'r') == id then call('HDEL', entry, 'r') end
end
return 1
""")
"""Delete the vectors of these entries, and roots that say nothing. Arguments: ids."""

BEGIN: Final = _script(r"""
local name = base..':'..ARGV[1]
if call('EXISTS', name) == 0 then call('XADD', name, '*', 'w', '', 'k', 'begun', 'i', '', 'K', '', 'S', '') end
return call('XREVRANGE', name, '+', '-', 'COUNT', 1)[1][1]
""")
"""The place that a log has reached. There is always one, so that a follower can tell when it was lost.

Arguments: which log. What went is written into one of its own from when somebody first followed that.
"""

-- Prints what must be the same in two runs that count instructions: times,
-- addresses, random numbers, the order of pairs().
print(os.time(), os.clock())
print({}, print, coroutine.create(print))
print(math.random(), math.random(1 << 40))
local t = {}
for i = 1, 100 do t[tostring(i * 7919 % 1009)] = i end
local keys = {}
for k in pairs(t) do keys[#keys + 1] = k end
print(table.concat(keys, " "))
local s = 0
for i = 1, 200000 do s = (s * 31 + i) % 1000003 end
print(s, os.clock())
collectgarbage()
print(collectgarbage("count"), os.clock())
io.stderr:write("and stderr ", os.clock(), "\n")

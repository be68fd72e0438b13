-- Files, time, memory: what reaches the system below.
package.path = "/?.lua"
local check = require("check")
local ok, is = check.ok, check.is

-- files
local f = assert(io.open("/tmp/out.txt", "w"))
f:write("line 1\n", 2, " ", 3.5, "\n")
f:close()
f = assert(io.open("/tmp/out.txt"))
is(f:read("l"), "line 1", "read a line")
is(f:read("n"), 2, "read an integer")
is(f:read("n"), 3.5, "read a float")
is(f:seek("end"), 13, "seek to the end")
is(f:read(1), nil, "the end of the file")
f:close()
local n = 0
for _ in io.lines("/tmp/out.txt") do n = n + 1 end
is(n, 2, "io.lines")
local _, err, code = io.open("/none/x")
ok(err:find("No such file", 1, true) and code == 2, "a missing file: " .. err)
ok(os.rename("/tmp/out.txt", "/tmp/new.txt"), "os.rename")
ok(os.remove("/tmp/new.txt"), "os.remove")
ok(not io.open("/tmp/new.txt"), "it is gone")
local name = os.tmpname()
ok(io.open(name, "w"), "os.tmpname")
ok(io.type(io.stdout) == "file", "io.type")
ok(#arg == 2 and arg[1] == "one" and arg[2] == "two words", "script arguments")
ok(arg[0]:find("system.lua", 1, true), "script name")

-- time
ok(os.time() > 1700000000, "os.time")
is(os.time({year = 2000, month = 1, day = 1, hour = 0}), 946684800, "os.time of a date")
is(os.date("!%Y-%m-%d", 86400), "1970-01-02", "os.date")
ok(os.clock() >= 0, "os.clock")
is(os.getenv("HOME_OF_LUA"), "here", "os.getenv")
is(os.getenv("NOT_THERE"), nil, "an environment variable that is not there")

-- memory
local t = {}
for i = 1, 200000 do t[i] = {i, tostring(i)} end
is(t[123456][2], "123456", "200,000 tables")
collectgarbage()
local full = collectgarbage("count")
t = nil
collectgarbage()
ok(collectgarbage("count") < full / 4, "garbage is collected")
local weak = setmetatable({}, {__mode = "k"})
weak[{}] = 1
collectgarbage()
is(next(weak), nil, "weak tables")
local finalized = 0
for _ = 1, 100 do setmetatable({}, {__gc = function() finalized = finalized + 1 end}) end
collectgarbage()
is(finalized, 100, "finalizers")
local big = ("0123456789"):rep(500000)
is(#big, 5000000, "a string of 5 MB")
is(#(big .. big), 10000000, "and of 10 MB")
collectgarbage("generational")
for i = 1, 100000 do local _ = {i} end
collectgarbage("incremental")
ok(true, "both kinds of collection")
ok(not os.execute(), "there is no shell")
check.done()

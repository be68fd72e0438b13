-- Closures, metatables, strings, coroutines, errors, integers and floats.
package.path = "/?.lua"
local check = require("check")
local ok, is = check.ok, check.is

-- closures
local function counter()
    local n = 0
    return function() n = n + 1; return n end
end
local a, b = counter(), counter()
a(); a()
is(a(), 3, "a closure keeps its variable")
is(b(), 1, "and has one of its own")

-- metatables
local V = {}
V.__index = V
V.__add = function(p, q) return setmetatable({x = p.x + q.x}, V) end
V.__eq = function(p, q) return p.x == q.x end
V.__tostring = function(p) return "V(" .. p.x .. ")" end
V.__call = function(p, y) return p.x * y end
V.__len = function() return 42 end
V.__close = function(p) p.closed = true end
local function v(x) return setmetatable({x = x}, V) end
is(tostring(v(1) + v(2)), "V(3)", "__add and __tostring")
ok(v(1) == v(1) and v(1) ~= v(2), "__eq")
is(v(3)(4), 12, "__call")
is(#v(1), 42, "__len")
local closed = v(1)
do local c <close> = closed end
ok(closed.closed, "to-be-closed variables")
local proxy = setmetatable({}, {__index = function(_, k) return k .. "!" end,
    __newindex = function(t, k, x) rawset(t, k, x * 2) end})
proxy.y = 4
ok(proxy.x == "x!" and proxy.y == 8, "__index and __newindex")

-- strings
is(("%5.2f|%d|%s|%q|%x"):format(3.14159, 42, "s", "a\nb", 255),
    " 3.14|42|s|\"a\\\nb\"|ff", "string.format")
is(("hello world"):gsub("o", "0"), "hell0 w0rld", "gsub")
is(("key=value"):match("(%w+)=(%w+)"), "key", "match")
local words = {}
for w in ("the quick brown fox"):gmatch("%a+") do words[#words + 1] = w end
is(table.concat(words, ","), "the,quick,brown,fox", "gmatch and concat")
is(("x"):rep(1000, ","):len(), 1999, "rep")
is(string.pack("<i4z", 7, "ab"):byte(1), 7, "string.pack")
is(utf8.char(228, 8364), "ä€", "utf8")
is(#("a\0b"), 3, "strings hold NUL")

-- coroutines
local gen = coroutine.wrap(function()
    for i = 1, 3 do coroutine.yield(i) end
end)
is(gen() + gen() + gen(), 6, "coroutines")
local many = {}
for i = 1, 1000 do
    many[i] = coroutine.create(function(x) return coroutine.yield(x) + i end)
end
local sum = 0
for i = 1, 1000 do
    local _, x = coroutine.resume(many[i], 1)
    local _, y = coroutine.resume(many[i], x)
    sum = sum + y
end
is(sum, 501500, "a thousand coroutines")

-- errors
local status, err = pcall(error, {code = 7})
ok(not status and err.code == 7, "pcall catches any value")
status, err = pcall(function() local t = nil; return t.x end)
ok(not status and err:find("attempt to index a nil value", 1, true), "a nil index is an error")
status, err = xpcall(function() error("deep") end, debug.traceback)
ok(err:find("stack traceback", 1, true), "traceback")
local function endless(n) return 1 + endless(n + 1) end
status, err = pcall(endless, 1)
ok(not status and err:find("stack overflow", 1, true), "endless recursion is Lua's own error")
local nested = ("("):rep(5000) .. "1" .. (")"):rep(5000)
status, err = load("return " .. nested)
ok(not status and err:find("C levels", 1, true) or err:find("overflow", 1, true), "so is nesting in the parser")
status, err = pcall(string.rep, "x", 1 << 40)
ok(not status, "out of memory is an error: " .. tostring(err))
status, err = load("x = = 1")
ok(not status and err:find("unexpected symbol", 1, true), "syntax errors are told")

-- numbers
is(7 // 2, 3, "integer division")
is(7 / 2, 3.5, "division")
is(math.type(1), "integer", "integers")
is(1e15, 1000000000000000.0, "floats")
is(math.maxinteger + 1, math.mininteger, "integers wrap")
is(tostring(0.1 + 0.2), "0.3", "floats print with 14 digits")
is(2 ^ 53, 9007199254740992.0, "powers")
ok(math.abs(math.sin(1) - 0.8414709848078965) < 1e-15, "math.sin")
ok(0/0 ~= 0/0 and 1/0 > math.maxinteger, "nan and inf")
math.randomseed(42)
local r1 = math.random(1000000)
math.randomseed(42)
is(math.random(1000000), r1, "a seed repeats")

-- goto, varargs, integer keys
local function count(...) return select("#", ...) end
is(count(nil, nil, 3), 3, "varargs")
local order = {}
for i, x in ipairs({10, 20, 30}) do order[i] = x end
is(#order, 3, "ipairs")
table.sort(order, function(p, q) return p > q end)
is(order[1], 30, "sort")
check.done()

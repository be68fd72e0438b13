-- What every test script uses: a point per call, counted, and the plan.
local check = {n = 0, bad = 0}

function check.ok(cond, name)
    check.n = check.n + 1
    if not cond then check.bad = check.bad + 1 end
    print((cond and "ok " or "not ok ") .. check.n .. " - " .. name)
end

function check.is(found, expected, name)
    check.ok(found == expected, name)
    if found ~= expected then
        print("# found " .. tostring(found) .. ", expected " .. tostring(expected))
    end
end

function check.done()
    print("1.." .. check.n)
    print("# end")
    os.exit(check.bad == 0)
end

return check

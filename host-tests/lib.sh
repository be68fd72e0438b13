# What test cases use; sourced by tools/test in the subshell of a case.
#
# A case runs in an empty directory, $T; $root and $O are absolute. It fails if
# anything called fail(). `guest` runs a program in QEMU and leaves its output
# in `out` and `err`, its status in $status; what follows compares these.

failures=0
status=
TIMEOUT_S=600 # of one run: nothing but a hang meets it, not a busy machine

fail() # message...
{
    failures=$((failures + 1))
    echo "# failed: $*"
}

note() # message...: shown beside a case that passes
{
    echo "# note: $*"
}

# Runs tools/run; its arguments are: options, image, the program's arguments.
guest()
{
    echo "\$ tools/run -t $TIMEOUT_S $(printf '%q ' "$@")"
    "$root/tools/run" -t $TIMEOUT_S "$@" >out 2>err
    status=$?
    # a log of what may be megabytes
    head -c 20000 out | sed 's/^/out: /'
    head -c 20000 err | sed 's/^/err: /'
    echo "# status $status"
}

status_is() # number
{
    [ "$status" = "$1" ] || fail "status $status, expected $1"
}

err_has() # extended regular expression
{
    grep -qE -- "$1" err || fail "stderr has no line like: $1"
}

err_lacks()
{
    ! grep -qE -- "$1" err || fail "stderr has a line like: $1"
}

out_has()
{
    grep -qE -- "$1" out || fail "stdout has no line like: $1"
}

out_is() # text
{
    [ "$(cat out)" = "$1" ] || fail "stdout is not: $1"
}

same() # file, file, what they are
{
    cmp -s "$1" "$2" || {
        fail "$3 differ"
        diff -a "$1" "$2" | head -n 20
    }
}

# The TAP on file $1 is complete and good: a plan, once, as many points as it
# says, all ok, and "# end" when $2 is given.
check_tap() # file, [end line]
{
    local plan points bad
    bad=$(grep -ac '^not ok ' "$1")
    points=$(grep -acE '^(not )?ok ' "$1")
    plan=$(sed -n 's/^1\.\.\([0-9]*\)$/\1/p' "$1")
    [ "$bad" = 0 ] || fail "$bad points of $points: $(grep -a '^not ok ' "$1" |
        head -n 5 | tr '\n' ';')"
    [ "$plan" = "$points" ] && [ "$points" -gt 0 ] ||
        fail "planned ${plan:-nothing}, got $points points"
    [ -z "${2-}" ] || grep -qxF "$2" "$1" || fail "no end line: $2"
    echo "# points $points"
}

# A guest program that prints TAP.
tap() # as guest
{
    guest "$@"
    status_is 0
    check_tap out "# end"
}

# A program that must end in a report: its status, then expressions that lines
# of stderr match, then -- and what to run.
dies() # status, regex..., --, as guest
{
    local expected=$1 regexes=()
    shift
    while [ "$1" != -- ]; do
        regexes+=("$1")
        shift
    done
    shift
    guest "$@"
    status_is "$expected"
    for regex in "${regexes[@]}"; do
        err_has "$regex"
    done
}

# The line of host-tests/guest/mustdie.c that is marked "DIES name".
line_of() # name
{
    grep -n "// DIES $1\$" "$root/host-tests/guest/mustdie.c" | cut -d : -f 1
}

# A frame of a backtrace at that line.
frame() # function, marker
{
    echo "  #[0-9]+ 0x[0-9a-f]+ $1[^ ]*\\+0x[0-9a-f]+ .*mustdie\\.c:$(line_of "$2")\$"
}

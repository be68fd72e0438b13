#!/bin/bash
# Tests tools/run with kernels of a few instructions (probe.S), so that nothing
# but the runner is tested. Prints TAP; the status is 0 if all passed.
#
# usage: host-tests/tools/run_test.sh
set -uo pipefail
export LC_ALL=C

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
run=$root/tools/run
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp" || exit 1

tests=0
failures=0

ok() # passed (0 or not), name
{
    tests=$((tests + 1))
    if [ "$1" = 0 ]; then
        echo "ok $tests - $2"
    else
        echo "not ok $tests - $2"
        failures=$((failures + 1))
        sed 's/^/# stderr: /' err 2>/dev/null | cut -c 1-300 | head -n 10
    fi
}

skip() # name, why
{
    tests=$((tests + 1))
    echo "ok $tests - $1 # SKIP $2"
}

is() # found, expected, name
{
    [ "$1" = "$2" ]
    ok $? "$3"
    [ "$1" = "$2" ] ||
        printf '# found:    %.300q\n# expected: %.300q\n' "$1" "$2"
}

has() # file, text, name
{
    grep -qF -- "$2" "$1"
    ok $? "$3"
}

kernel() # name, macros...
{
    ${CC:-cc} -c -g -m64 "${@:2}" -o "$1.o" \
        "$root/host-tests/tools/probe.S" &&
        ld -nostdlib -static -Ttext-segment=0x100000 -e start -o "$1.elf" \
            "$1.o" || {
        echo "Bail out! cannot build the kernel $1"
        exit 1
    }
}

# Runs without input, with a timeout that only a broken runner meets.
quick()
{
    "$run" -t 20 "$@" >out 2>err </dev/null
}

statuses_are_exact()
{
    local n
    for n in 0 1 2 3 127 128 134 255; do
        kernel "status$n" -DSTATUS=$n
        quick "status$n.elf"
        is $? $n "status $n arrives"
    done
    for n in q35 pc; do
        quick -M $n status3.elf
        is $? 3 "status 3 arrives on $n"
    done
    is "$(cat out err)" "" "nothing is printed but what the guest prints"
}

failures_say_what_happened()
{
    quick nowhere.elf
    is $? 125 "a missing image is status 125"
    has err nowhere.elf "a missing image is named"
    echo "this is text" >text.elf
    quick text.elf
    is $? 125 "a file that is no ELF is status 125"
    has err "not an ELF" "a file that is no ELF is said to be none"
    head -c 80 status0.elf >short.elf
    quick short.elf
    is $? 125 "a truncated image is status 125"
    quick .
    is $? 125 "a directory is no image"
    quick triple.elf
    is $? 125 "a triple fault is status 125"
    is "$(tail -n 1 err)" \
        "run: guest crashed without a status (triple fault?)" \
        "a triple fault is the last line"
    quick quiet.elf
    is $? 125 "no status record is status 125"
    QEMU=/nonexistent/qemu quick status0.elf
    is $? 125 "no QEMU is status 125"
    has err "cannot start /nonexistent/qemu" "no QEMU is said"
    quick --cpu no-such-model status0.elf
    is $? 125 "QEMU's refusal is status 125"
    has err no-such-model "QEMU's own message is shown"
}

usage_errors()
{
    local args
    for args in "" "--no-such-option x" "-m 1M status0.elf" "-m x status0.elf" \
        "-m 0 status0.elf" "-c 0 status0.elf" "-c 65 status0.elf" \
        "-M z80 status0.elf" "-t soon status0.elf" "-e =x status0.elf" \
        "--icount -c 2 status0.elf" "-o -- status0.elf"; do
        quick $args
        is $? 2 "wrong usage is status 2: tools/run $args"
    done
    quick -m 1M status0.elf
    has err "minimum of 2 MiB" "too little memory: the least is said"
    quick -m 2M status0.elf
    is $? 0 "the least memory suffices"
    quick --help
    is $? 0 "--help is no error"
    has out "usage: tools/run" "--help goes to stdout"
}

timeouts()
{
    local start=$SECONDS
    "$run" -t 0.4 hang.elf >out 2>err </dev/null
    is $? 124 "a hang ends with status 124"
    [ $((SECONDS - start)) -lt 10 ]
    ok $? "a hang ends in time"
    is "$(cat out)" "up" "what was printed before a timeout arrives"
    has err "timed out after 0.4 s" "a timeout is said"
}

input_arrives()
{
    local status
    printf 'plain\n' | "$run" -t 20 echo.elf >out 2>err
    is "$? $(cat out)" "0 plain" "a pipe's input arrives, and its end"
    printf 'a\020b\020\020c\020\004d\000e\377' >in
    "$run" -t 20 echo.elf <in >out 2>err
    status=$?
    cmp -s in out
    is "$status$?" 00 "bytes 0x10, 0x04, 0 and 255 arrive as they are"
    "$run" -t 20 echo.elf </dev/null >out 2>err
    is "$? $(cat out)" "0 " "/dev/null is an end of file at once"
    "$run" -t 20 echo.elf <&- >out 2>err
    is $? 0 "a closed stdin is an end of file"
    "$run" -t 20 echo.elf <. >out 2>err
    is $? 0 "a directory as stdin is an end of file"
    head -c 100000 /dev/urandom >in
    "$run" -t 60 echo.elf <in >out 2>err
    cmp -s in out
    ok $? "100000 random bytes arrive"
    (printf one; sleep 0.3; printf two) | "$run" -t 20 echo.elf >out 2>err
    is "$(cat out)" onetwo "a slow writer is waited for"
    printf 'for another\n' >in
    { "$run" -t 20 status3.elf >out 2>err; cat >rest; } <in
    cmp -s in rest
    ok $? "a program that does not read leaves the input alone"
    head -c 1000000 /dev/urandom >in
    "$run" -t 60 echo.elf <in >out 2>err
    cmp -s in out
    ok $? "a megabyte arrives whole"
    "$run" -t 20 status3.elf < <(exec sleep 5) >out 2>err
    is $? 3 "an idle writer does not hold up the end"
}

output_arrives()
{
    local statuses
    quick flood.elf
    is "$(wc -c <out)" 1048576 "a mebibyte arrives whole"
    quick flood.elf && "$run" flood.elf </dev/null | (sleep 0.5; wc -c) >count
    is "$(cat count)" 1048576 "a mebibyte arrives whole at a late reader"
    "$run" -t 20 endless.elf </dev/null 2>err | head -c 3 >/dev/null
    statuses=${PIPESTATUS[*]}
    is "$statuses" "141 0" "a reader that leaves ends the run by SIGPIPE"
    is "$(cat err)" "" "and quietly"
    if [ -w /dev/full ]; then
        "$run" -t 20 flood.elf >/dev/full 2>err </dev/null
        is $? 125 "a full disk is status 125"
        has err "No space left" "a full disk is said"
    fi
    "$run" -t 20 status3.elf >&- 2>err </dev/null
    is $? 3 "a closed stdout is nothing to one who does not write"
}

wait_until() # command...
{
    local i
    for i in $(seq 200); do
        "$@" && return 0
        sleep 0.05
    done
    return 1
}

child_of()
{
    child=$(cat "/proc/$1/task/$1/children" 2>/dev/null) && [ -n "$child" ]
}

gone()
{
    ! [ -e "/proc/${1// /}" ]
}

signals_end_it()
{
    local signal status pid
    for signal in INT TERM HUP; do
        rm -f out
        env --default-signal="$signal" "$run" hang.elf >out 2>err </dev/null &
        pid=$!
        wait_until test -s out
        child_of $pid
        kill -"$signal" $pid
        wait $pid 2>/dev/null
        status=$?
        is $status $((128 + $(kill -l $signal))) "SIG$signal ends the runner"
        gone "$child"
        ok $? "SIG$signal ends QEMU"
    done
    rm -f out
    "$run" hang.elf >out 2>err </dev/null &
    pid=$!
    wait_until test -s out
    child_of $pid
    kill -KILL $pid
    wait $pid 2>/dev/null
    wait_until gone "$child"
    ok $? "QEMU does not outlive a killed runner"
    rm -f out
    (trap '' HUP; exec "$run" -t 2 hang.elf >out 2>err </dev/null) &
    pid=$!
    wait_until test -s out
    kill -HUP $pid
    wait $pid
    is $? 124 "a signal that was ignored (nohup) stays ignored"
}

# Prints "path mode offset size" of each entry of the archive $1.
list_archive()
{
    local offset=0 header name_bytes size name
    while :; do
        header=$(tail -c +$((offset + 1)) "$1" | head -c 110)
        [ "${header:0:6}" = 070701 ] || { echo "bad header at $offset"; return; }
        name_bytes=$((16#${header:94:8}))
        size=$((16#${header:54:8}))
        name=$(tail -c +$((offset + 111)) "$1" | head -c $name_bytes |
            tr -d '\0')
        [ "$name" = 'TRAILER!!!' ] && return
        offset=$(((offset + 110 + name_bytes + 3) / 4 * 4))
        echo "$name ${header:14:8} $offset $size"
        offset=$(((offset + size + 3) / 4 * 4))
    done
}

files_arrive()
{
    local list
    mkdir -p tree/sub "tree/a b" up/down
    printf 'small' >tree/sub/small
    printf 'small' >tree/sub.small
    printf 'blank' >"tree/a b/c  d"
    head -c 5000 /dev/urandom >tree/sub/large
    head -c 4096 /dev/urandom >tree/page
    : >tree/empty
    quick -f tree tree.elf
    is $? 0 "a directory is taken"
    list_archive out >list
    is "$(cut -d' ' -f1 list | head -n 2 | tr '\n' ' ')" "tree tree/a " \
        "parents come before children"
    has list "tree/a b/c  d 000081A4" "a name with blanks arrives"
    is "$(grep -c . list)" 9 "each entry stands once"
    is "$(grep -o -e '^tree/sub/large' -e '^tree/sub\.small' list |
        tr '\n' ' ')" "tree/sub/large tree/sub.small " \
        "a directory's content follows it"
    local name mode offset size
    while read -r name mode offset size; do
        case $name in
        tree/page | tree/sub/large)
            [ $((offset % 4096)) = 0 ] && [ "$size" = "$(stat -c %s $name)" ] &&
                cmp -s -n "$size" -i "$offset:0" out $name
            ok $? "$name is whole and on a page boundary"
            ;;
        esac
    done <list
    cp out first
    sleep 1.1 # the same in another second, read in another order
    touch tree/sub
    rm -rf again && cp -r tree again && rm -rf tree && mv again tree
    quick --icount -f tree tree.elf
    cp out first
    quick --icount -f ./tree/../tree/ tree.elf
    cmp -s out first
    ok $? "under --icount the archive depends on names and contents only"

    (cd up/down && "$run" -t 20 -f ../../tree/page -f ./../x -f "$tmp/tree/page" \
        "$tmp/tree.elf") >out 2>err </dev/null
    is $? 125 "a missing file is status 125"
    (cd up/down && "$run" -t 20 -f ../../tree/page -f "$tmp/tree/page" \
        "$tmp/tree.elf") >out 2>err </dev/null
    list=$(list_archive out | cut -d' ' -f1 | tr '\n' ' ')
    has <(echo " $list") " tree/page " "../x lies at /x"
    has <(echo " $list") " ${tmp#/}/tree/page " "an absolute path keeps its place"

    quick -f tree/page -f tree -f tree/../tree/page tree.elf
    is $? 0 "naming a file twice is no error"
    mkdir -p "clash/tree" && printf other >clash/tree/page
    (cd clash && "$run" -t 20 -f ../tree/page -f tree/page "$tmp/tree.elf") \
        >out 2>err </dev/null
    is $? 125 "two files for one place is an error"
    has err "would lie at /tree/page" "and the place is named"

    ln -s ../tree links && ln -s page tree/link && ln -s nowhere tree/broken &&
        ln -s .. tree/sub/circle && mkfifo tree/fifo
    quick -f tree tree.elf
    is $? 0 "odd things in a directory are no error"
    is "$(grep -c 'left out' err)" 3 "each is a warning"
    has err "tree/broken: a link to nowhere" "a broken link is named"
    has err "tree/sub/circle: leads back" "a circle is named"
    has err "tree/fifo: neither" "a fifo is named"
    has <(list_archive out) "tree/link 000081A4" "a link to a file is a file"
    quick -f tree/fifo tree.elf
    is $? 125 "a fifo named by itself is an error"
    rm tree/fifo tree/broken tree/sub/circle

    truncate -s 300M huge
    quick -f huge tree.elf
    is $? 125 "a tree larger than the memory is refused"
    has err "give more with --mem" "and says what to do"
    truncate -s 80M huge
    quick -m 128M -f huge status3.elf
    is $? 3 "a large tree is taken"
    rm huge
    mkdir many && (cd many && seq -f 'file-%g' 3000 | xargs touch)
    quick -f many tree.elf
    is $? 0 "a directory of 3000 files is taken"
}

arguments_arrive()
{
    local long
    quick cmdline.elf one 'two words' 'quo"te' 'back\slash' '' $'new\nline' -f
    is "$(cat out)" 'console.framed=1 -- "cmdline" "one" "two words" "quo\"te" "back\\slash" "" "new
line" "-f"' "arguments are quoted"
    quick -o 'a.b=1 c.d=2' -o e.f=3 -e N=v -e 'M=a "b"' cmdline.elf
    is "$(cat out)" 'console.framed=1 env.N=v "env.M=a \"b\"" a.b=1 c.d=2 e.f=3 -- "cmdline"' \
        "options and environment come before the arguments"
    long=$(head -c 4000 /dev/zero | tr '\0' x)
    quick cmdline.elf "$long"
    is "$(cat out)" "console.framed=1 -- \"cmdline\" \"$long\"" \
        "4000 bytes of arguments fit the command line"
    for long in 4064 100000; do
        long=$(head -c $long /dev/zero | tr '\0' x)
        quick cmdline.elf "$long" end
        is "$(cat out)" "console.framed=1 args.file=/.args" \
            "more than that goes by file"
        quick tree.elf "$long" end
        is "$(list_archive out | grep -c '^\.args ')" 1 "which is in the tree"
        is "$(tr '\0' '\n' <out | grep -a -A 2 -x tree)" "tree
$long
end" "and holds them all"
    done
    quick tree.elf $(seq 20000)
    is "$? $(tr '\0' '\n' <out | grep -ac '^[0-9]\{1,5\}$')" "0 20000" \
        "20000 arguments are taken"
    quick -e "X=$long" cmdline.elf
    is $? 2 "an environment that is too long is refused"
}

backtraces_get_lines()
{
    local address line
    kernel trace -DTRACE
    address=$(nm trace.elf | awk '$3 == "start" { print $1 }')
    kernel trace -DTRACE "-DTRACE_TEXT=\"  #0 0x$address start+0x0\\n\
  #1 0x$(printf %x $((16#$address + 1))) start+0x1\\n\
  #2 0xffffffff80000000 nowhere\\nlast\"" -DQUIET
    line=$(addr2line -e trace.elf "$address" | sed 's/.*://')
    quick trace.elf
    has err "start+0x0 host-tests/tools/probe.S:$line" "frame 0 gets its line"
    has err "start+0x1 host-tests/tools/probe.S:$line" \
        "a return address gets the call's line"
    has err "  #2 0xffffffff80000000 nowhere" "an unknown address stays"
    is "$(tail -n 2 err)" "last
run: guest ended without a status" "the runner's message has its own line"
    mkdir -p bin
    ln -sf "$(command -v qemu-system-x86_64)" bin/qemu
    QEMU=$tmp/bin/qemu PATH=$tmp/bin "$root/build/tools/run" -t 20 trace.elf \
        >out 2>err </dev/null
    is $? 125 "without addr2line all goes on"
    is "$(grep -c '#' err)" 3 "and lines stay as they are"
}

other_options()
{
    quick --usage status3.elf
    is $? 3 "--usage keeps the status"
    grep -qE '^usage: wall_ms=[0-9.]+ cpu_ms=[0-9.]+ maxrss_kib=[0-9]+$' err
    ok $? "--usage prints its line"
    quick -n -f tree status3.elf "it's"
    is $? 0 "--dry-run is status 0"
    has out "-initrd" "--dry-run prints the command"
    has out "it'\\''s" "--dry-run quotes"
    quick --icount status3.elf
    is $? 3 "--icount runs"
    quick --accel auto status3.elf
    is $? 3 "--accel auto runs"
    quick -c 4 -m 64 status3.elf
    is $? 3 "four CPUs run"
    mkdir -p "some where" && cp status3.elf "some where/an image.elf"
    (cd "some where" && quick "an image.elf")
    is $? 3 "an image's name may have blanks"
}

debugging()
{
    local pid port
    "$run" -t 20 --gdb-only-server status3.elf >out 2>err </dev/null &
    pid=$!
    wait_until grep -q 'gdb port' err
    port=$(sed -n 's/.*gdb port //p' err)
    if ! command -v gdb >/dev/null; then
        kill $pid
        wait $pid
        skip "gdb breaks before paging" "no gdb"
        return
    fi
    gdb -q -nx -batch -ex 'set architecture i386:x86-64' \
        -ex "target remote 127.0.0.1:$port" -ex 'hbreak leave' -ex continue \
        -ex 'info symbol $pc' -ex 'delete' -ex continue status3.elf \
        >gdb.out 2>&1 </dev/null
    has gdb.out "leave in section .text" "gdb breaks before paging"
    wait $pid
    is $? 3 "a run under gdb ends as ever"
    printf 'hbreak leave\ncontinue\ninfo symbol $pc\nkill\nquit\n' |
        "$run" -t 20 -d status3.elf >out 2>err
    has out "leave in section .text" "--debug starts gdb"
}

terminals()
{
    if ! command -v script >/dev/null; then
        skip "a terminal" "no script(1)"
        return
    fi
    script -qec "'$run' -t 20 cmdline.elf" /dev/null </dev/null >out 2>err
    has out "console.tty=1" "a terminal is told to the guest"
    (sleep 1; printf 'ax\177b\n'; sleep 0.3; printf '\004'; sleep 0.5) |
        script -qec "'$run' -t 20 echo.elf" /dev/null >out 2>err
    is "$? $(tail -n 1 out | tr -d '\r')" "0 ab" \
        "a terminal edits lines and ends the input"
    (sleep 1; printf '\003'; sleep 0.5) |
        script -qec "trap : INT; '$run' -t 20 hang.elf; echo status \$?; stty -a" /dev/null \
            >out 2>err
    has out "status 130" "Ctrl-C ends a run"
    has out "isig icanon iexten echo" "and leaves the terminal as it was"
    # a job in the background that may not read the terminal
    cat >job.sh <<'END'
set -m
"$1" -t 20 status3.elf &
wait $!
echo "status $?"
END
    script -qec "bash job.sh '$run'" /dev/null </dev/null >out 2>err
    has out "status 3" "a background job does not hang at the terminal"
}

kernel hang -DHANG
kernel triple -DTRIPLE
kernel quiet -DQUIET
kernel echo -DECHO
kernel cmdline -DCMDLINE
kernel tree -DTREE
kernel flood -DFLOOD=1048576
kernel endless -DFLOOD=0

statuses_are_exact
failures_say_what_happened
usage_errors
timeouts
input_arrives
output_arrives
signals_end_it
files_arrive
arguments_arrive
backtraces_get_lines
other_options
debugging
terminals

echo "1..$tests"
[ $failures = 0 ]

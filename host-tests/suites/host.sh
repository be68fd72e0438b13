# What runs on the host: unit tests under sanitizers, and the tools' own tests.

for t in $(find host-tests -name 'test_*.c' | sort); do
    t=${t#host-tests/}
    add "host/${t%.c}" host_program +host-tests "${t%.c}"
done
add host/coverage coverage_case
add host/threads-tsan tsan_case
add tools/run tools_run
add tools/setup tools_setup

host_program() # path below build/host-tests
{
    local dir=$root/build/host-tests
    case $CC in *clang*) dir+=-clang ;; esac
    echo "\$ $dir/$1"
    CMOCKA_MESSAGE_OUTPUT=TAP timeout 300 "$dir/$1" >out 2>err
    status=$?
    sed 's/^/out: /' out
    sed 's/^/err: /' err
    sed -n 's/^\(# note: .*\)/\1/p' out
    status_is 0
    check_tap out
}

coverage_case()
{
    echo "\$ tools/coverage"
    (cd "$root" && timeout 300 tools/coverage >"$T/out" 2>&1) ||
        fail "see above"
    cat out
}

# The same tests as host/*/test_threads, without a data race.
tsan_case()
{
    local dir=build/host-tests-tsan t
    case $CC in *clang*) dir+=-clang ;; esac
    (cd "$root" && make -s --no-print-directory CC="$CC" H=$dir \
        san_flags=-fsanitize=thread host-tests-threads) >make.log 2>&1 || {
        cat make.log
        fail "it can't be built with TSan"
        return
    }
    for t in mm runtime/heap runtime/sched runtime/sync runtime/chan; do
        echo "\$ $dir/$t/test_threads"
        CMOCKA_MESSAGE_OUTPUT=TAP timeout 300 \
            "$root/$dir/$t/test_threads" >out 2>err
        status=$?
        sed 's/^/out: /' out
        head -c 20000 err | sed 's/^/err: /'
        status_is 0
        check_tap out
        err_lacks "ThreadSanitizer"
    done
    # What is one is found: what stands for the scheduler there does not hide any.
    for t in end len back after; do
        echo "\$ $dir/runtime/chan/test_threads wrong $t"
        timeout 300 "$root/$dir/runtime/chan/test_threads" wrong $t >out 2>err
        status=$?
        status_is 66
        err_has 'ThreadSanitizer: data race'
    done
}

tools_run()
{
    echo "\$ host-tests/tools/run_test.sh"
    CC=gcc timeout 300 "$root/host-tests/tools/run_test.sh" >out 2>err
    status=$?
    sed 's/^/out: /' out
    sed 's/^/err: /' err
    sed -n 's/^\(# note: .*\)/\1/p' out
    status_is 0
    check_tap out
}

# Without root and without sudo: one line to paste, and status 2.
tools_setup()
{
    local path
    path=$(mktemp -d)
    "$root/tools/setup" build run || fail "what is needed is not there"
    "$root/tools/setup" nosuch 2>err && fail "an unknown target is accepted"
    err_has usage
    for t in env id sed bash cat mkdir dirname tr head apt-get; do
        ln -s "$(command -v $t)" "$path/" 2>/dev/null
    done
    printf '#!/bin/sh\necho 1000\n' >"$path/id.new"
    mv -f "$path/id.new" "$path/id"
    chmod +x "$path/id"
    PATH=$path bash "$root/tools/setup" build >out 2>err
    status=$?
    rm -rf "$path"
    cat err
    status_is 2
    tail -n 1 err | grep -q 'apt-get update && sudo apt-get install' ||
        fail "the last line is not one to paste"
}

# The same app as a process, under each sanitizer, prints what it should.
for san in none address undefined thread valgrind; do
    add "host/app-$san" host_app "$san"
done

host_app() # sanitizer
{
    local san=$1
    if [ "$san" = valgrind ] && ! command -v valgrind >/dev/null; then
        echo "# no valgrind here: not run"
        return
    fi
    [ "$san" != none ] || san=
    echo "a b a c a b" >"text of words"
    make -s -C "$root" host APP=wordcount SAN="$san" \
        FILES="'$PWD/text of words'" >out 2>err || fail "make host: status $?"
    printf '      3 a\n      2 b\n      1 c\n' | cmp - out || fail "wrong output"
}

# Builds are right after a change, and do nothing without one.
add make/incremental incremental_case

incremental_case()
{
    mkdir -p a b
    printf '#include <stdio.h>\nint main(void) { puts("A"); }\n' >a/same.c
    printf '#include <stdio.h>\nint main(void) { puts("B"); }\n' >b/same.c
    for i in a b a; do
        make -s -C "$root" run APP="$PWD/$i/same.c" 2>>err >>out
    done
    [ "$(tr -d '\n' <out)" = ABA ] || fail "one file's image ran for another's"
    make -C "$root" image APP="$PWD/a/same.c" >again 2>&1
    grep -q ' CC \| LD ' again && fail "built again without a change"
    touch "$root/runtime/include/libc/dirent.h"
    make -C "$root" image APP=wordcount >again 2>&1
    grep -q 'CC .*wordcount' again || fail "a header of libc is not tracked"
    make -C "$root" run APP=nosuch >again 2>&1 && fail "APP=nosuch is accepted"
    grep -q 'there is no such app; apps: .*hello' again || fail "no list of apps"
}

# gdb stops at the first instruction, before paging, and in main().
add make/debug debug_case @hello

debug_case() # image
{
    local port i low
    low=$(nm "$1" | sed -n 's/^ffffffff\(.*\) . pvh_entry$/\1/p')
    low=$((0x$low - 0x80000000))
    if ! command -v gdb >/dev/null; then
        echo "# no gdb here: not run"
        return
    fi
    "$root/tools/run" -t 120 --gdb-only-server "$1" >out 2>err </dev/null &
    for i in $(seq 200); do
        port=$(sed -n 's/.*gdb port //p' err)
        [ -z "$port" ] || break
        sleep 0.05
    done
    gdb -q -nx -batch -ex 'set architecture i386:x86-64' \
        -ex "add-symbol-file $1 -o 0x80000000" \
        -ex "target remote 127.0.0.1:$port" \
        -ex "hbreak *$low" -ex continue \
        -ex 'info symbol $pc' -ex delete -ex 'hbreak main' -ex continue \
        -ex backtrace -ex 'p argc' -ex delete -ex continue "$1" >gdb.out 2>&1 </dev/null
    wait
    sed 's/^/gdb: /' gdb.out
    grep -q '^pvh_entry in section' gdb.out || fail "no symbols before paging"
    grep -q '^#0  main (argc=1' gdb.out || fail "no stop in main"
    grep -q '^Hello' out || fail "it does not run on"
}

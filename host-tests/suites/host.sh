# What runs on the host: unit tests under sanitizers, and the tools' own tests.

for t in $(find host-tests -name 'test_*.c' | sort); do
    t=${t#host-tests/}
    add "host/${t%.c}" host_program +host-tests "${t%.c}"
done
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
    status_is 0
    check_tap out
}

tools_run()
{
    echo "\$ host-tests/tools/run_test.sh"
    CC=gcc timeout 300 "$root/host-tests/tools/run_test.sh" >out 2>err
    status=$?
    sed 's/^/out: /' out
    sed 's/^/err: /' err
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

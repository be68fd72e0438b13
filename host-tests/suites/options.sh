# The boot's command line and the loader's files: what is wrong is said in one
# line and ends the boot, with status 2.

add options/unknown bad_option 'unknown option "nosuch=1"; valid are .*clock\.epoch.* cpus .* seed' @hello nosuch=1
add options/no-value bad_option 'unknown option "nosuch"; valid are' @hello nosuch
add options/cpus-0 bad_option 'option cpus=0: must be a number from 1 to 64' @hello cpus=0
add options/cpus-65 bad_option 'option cpus=65: must be' @hello cpus=65
add options/cpus-abc bad_option 'option cpus=abc: must be' @hello cpus=abc
add options/cpus-empty bad_option 'option cpus=: must be' @hello cpus=
add options/seed-big bad_option 'option seed=99999999999999999999: must be' @hello seed=99999999999999999999
add options/bool bad_option 'option help=2: must be 0 or 1' @hello help=2
add options/prefix bad_option 'unknown option "cpu=1"' @hello cpu=1
add options/quote bad_option 'quote without end' @hello 'env.A="open'
add options/help help_case @hello
add options/cpus cpus_case @boot
add options/banner banner_case @hello
add options/args-file bad_option 'args\.file' @hello args.file=/none
add options/too-little too_little_case @hello
add options/heap-limit bad_option 'more MEM, or a larger heap\.limit' @hello 'boot.banner=0 heap.limit=1K'
add options/too-many-env env_case @args

bad_option() # regex, image, options
{
    guest -o "$3" "$2"
    status_is 2
    out_is ""
    err_has "^gneiss: .*$1"
    [ "$(wc -l <err)" = 1 ] || [ "${3%%=*}" = args.file ] ||
        fail "more than one line"
}

# Every option of the sources is listed, sorted, and help ends the boot.
help_case() # image
{
    local name
    guest -o help=1 "$1"
    status_is 0
    for name in $(grep -rhoE 'OPTION_(BOOL|UINT|SIZE|STRING|CALL)\([a-z_]+, "[a-z.]+"' \
        "$root"/arch "$root"/boot "$root"/mm "$root"/runtime --include='*.c' |
        grep -o '"[^"]*"' | tr -d '"'); do
        out_has "^  ${name//./\\.} +[^ ]"
    done
    out_has '^  env\.NAME '
    sed -n 's/^  \([a-z.]*\) .*/\1/p' out | grep -v '^env' >names
    sort names | cmp -s - names || fail "the list is not sorted"
    [ "$(wc -l <names)" -ge 6 ] || fail "the list is short"
}

cpus_case() # image
{
    tap -c 4 -o cpus=2 "$1" cpus=2
    tap -c 4 -o cpus=64 "$1" cpus=4
    tap -c 2 -o cpus=1 "$1" cpus=1
}

banner_case() # image
{
    guest -o boot.banner=0 "$1"
    status_is 0
    [ ! -s err ] || fail "there is a banner"
}

# Starts with QEMU's options replaced behind the runner's back.
qemu_with() # QEMU option...
{
    cat >qemu <<EOF
#!/bin/bash
exec qemu-system-x86_64 "\$@" $(printf '%q ' "$@")
EOF
    chmod +x qemu
    export QEMU=$PWD/qemu
}

too_little_case() # image
{
    guest -m 1M "$1"
    status_is 2
    err_has 'minimum of 2 MiB'
    guest -m 2M -c 64 "$1"
    status_is 2
    err_has 'too little memory: .* KiB are free, .* need [0-9]+'
    # Less than the runner allows: sixteen CPUs say what they need. How much less
    # can be loaded at all depends on QEMU.
    qemu_with -m 1700k
    guest "$1"
    status_is 0
    guest -c 32 "$1"
    status_is 2
    err_has 'too little memory: .* KiB are free, .* need [0-9]+'
}

env_case() # image
{
    local i env=()
    for i in $(seq 100); do
        env+=(-e "V$i=$i")
    done
    guest "${env[@]}" "$1"
    status_is 2
    err_has 'more than 64 env'
}

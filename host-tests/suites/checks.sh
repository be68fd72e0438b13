# Rules that need no run: of the sources and of the machine code.

add check/layers check_with check-layers
add check/layers-self-test check_with check-layers --self-test
add check/text check_with check-text
add check/text-self-test check_with check-text --self-test
add check/format check_with check-format
add check/go-tests check_with check-go-tests
add check/image-self-test check_with check-image --self-test
for i in hello lua wordcount libc cpu stack mustdie; do
    add check/image-$i check_with check-image @$i
done
add check/docs check_docs
add check/symbols symbols_case @mustdie
add check/generated generated_case @hello

# Loops keep a pointer to their array, at every instruction (R11).
add check/idioms idioms_case

# The other compiler builds everything, and it runs.
case $CC in
*clang*) other=gcc other_O=build ;;
*) other=clang other_O=build/clang ;;
esac
for i in hello cpu stack libc mem boot go_chan go_panic go_time; do
    add $other/$i other_case $i %$i
done
add $other/mustdie other_mustdie %mustdie
add $other/apps other_apps %wordcount %lua

check_with() # tool, argument...
{
    echo "\$ tools/$(printf '%q ' "$@")"
    timeout 300 "$root/tools/$1" "${@:2}" >out 2>&1 || fail "see above"
    cat out
}

# Built with the flags of R11.
idioms_case()
{
    local by level
    for by in gcc clang; do
        for level in -O2 -Os; do
            "$by" -std=gnu17 $level $(idiom_flags $by) -fno-pie -no-pie -I"$root" \
                -mno-red-zone -fno-omit-frame-pointer -fcf-protection=none \
                -fstack-clash-protection "$root/host-tests/idioms/step.c" -o step || {
                fail "$by can't build it"
                continue
            }
            timeout 300 ./step >out || fail "$by $level: $(head -n 3 out)"
            sed "s/^/$by $level: /" out
        done
    done
}

# Those that tools/cflags gives, without what needs our image.
idiom_flags() # compiler
{
    "$root/tools/cflags" "$1" | tr ' ' '\n' |
        grep -xE -- '-fno-(ivopts|schedule-insns2|shrink-wrap)' | tr '\n' ' '
}

check_docs()
{
    [ -x "$root/tools/check-docs" ] || {
        note "there is no tools/check-docs"
        return
    }
    echo "\$ tools/check-docs"
    (cd "$root" && timeout 550 tools/check-docs >"$T/out" 2>&1) ||
        fail "see above"
    cat out
}

# A name for every address: the image's own table against nm.
symbols_case() # image
{
    local address name offset start real
    guest -c 2 "$1" nil_in_qsort
    while read -r address name offset; do
        read -r start real < <(nm -n "$1" | awk -v a="${address#0x}" '$2 ~ /[tTwW]/ && $1 <= a { n = $1 " " $3 } END { print n }')
        [ "$real" = "$name" ] || fail "$address is $real, not $name"
        [ $((address - 0x$start)) = $((offset)) ] ||
            fail "$address is not $offset from the beginning of $name, 0x$start"
    done < <(sed -n 's/^  #[0-9]* \(0x[0-9a-f]*\) \([^+]*\)+\(0x[0-9a-f]*\).*/\1 \2 \3/p' err)
    [ "$(grep -c '^  #' err)" -ge 6 ] || fail "a short backtrace"
}

# Files that a tool writes are as it would write them now.
generated_case() # image
{
    (cd "$root" && tools/gen-boot-options --check "${1#"$root"/}") >out 2>err ||
        fail "the table of boot options is stale:" "$(cat err)"
}

other_case() # name, image
{
    local image=$2
    case $1 in
    hello)
        guest "$image"
        out_is "Hello from Gneiss, world!"
        check_with check-image "$image"
        ;;
    libc) libc_case 2 "$image" ;;
    boot) boot_case microvm max 2 64M "$image" ;;
    mem) tap -c 2 -m 64M "$image" ;;
    *)
        tap -c 2 "$image" quick
        tap -c 2 --cpu qemu64 -M q35 "$image" quick
        ;;
    esac
}

other_mustdie() # image
{
    local image=$1
    dies 2 nil 'compare_nil\+.*mustdie\.c' 'nil_in_qsort\+.*mustdie\.c' -- \
        "$image" nil_in_qsort
    dies 2 'stack smashed' 'smash' -- "$image" smash_canary
    dies 2 '^fatal error: stack overflow' 'deep\+' -- "$image" stack_overflow
    dies 2 'system stack overflow on CPU 1' -- -c 2 "$image" system_overflow
    dies 2 'forbidden memory access' -- "$image" write_text_direct
    dies 2 'divide by zero' -- "$image" divide_by_zero
    dies 2 'nil pointer dereference \(write' -- "$image" nil_write
}

other_apps() # images: wordcount, lua
{
    echo 'b a b' >text
    guest -f text "$1" text
    out_is "$(printf '      2 b\n      1 a')"
    lua_case language "$2"
}

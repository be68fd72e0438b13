# Initial files: hostile archives given to QEMU as they are. Whatever they
# hold, the boot ends with a line and status 2, or the program runs; never a
# crash, a hang or a report.

add files/truncated hostile_case truncated @args
add files/garbage hostile_case garbage @args
add files/fields hostile_case fields @args
add files/names hostile_case names @args
add files/fuzz-1 fuzz_case 1 @args
add files/fuzz-2 fuzz_case 2 @args
add files/large large_case @list

# One entry of a newc archive, its name padded to a multiple of 4, like the data.
entry() # name, data, [mode], [name size], [file size], [magic]
{
    local name=$1 data=$2 size=${5-} pad
    [ -n "$size" ] || size=$(printf %08x ${#data})
    printf '%s' "${6-070701}" 00000001 "${3-000081a4}" 00000000 00000000 \
        00000001 00000000 "$size" 00000000 00000000 00000000 00000000 \
        "${4-$(printf %08x $((${#name} + 1)))}" 00000000
    printf '%s\0' "$name"
    pad=$(((4 - (110 + ${#name} + 1) % 4) % 4))
    [ $pad = 0 ] || printf '\0%.0s' $(seq $pad)
    printf '%s' "$data"
    pad=$(((4 - ${#data} % 4) % 4))
    [ $pad = 0 ] || printf '\0%.0s' $(seq $pad)
}

trailer()
{
    entry 'TRAILER!!!' ''
}

good()
{
    entry dir '' 000041ed
    entry dir/one 'first file'
    entry two 'the second file, which is longer'
    trailer
}

make_archives() # kind: into 001, 002, ...
{
    local n=0 size i
    next()
    {
        printf -v archive %03d $((++n))
    }
    case $1 in
    truncated)
        good >whole
        size=$(wc -c <whole)
        for i in 1 5 6 50 109 110 111 114 120 150 230 240 250 \
            $((size - 130)) $((size - 120)) $((size - 20)) $((size - 1)); do
            next
            head -c "$i" whole >$archive
        done
        ;;
    garbage)
        next; printf 'x' >$archive
        next; head -c 100000 /dev/zero >$archive
        next; printf '070701' >$archive
        next; yes 070701 | head -c 50000 >$archive
        next; printf '\037\213\010garbage' >$archive
        next; { good; head -c 5000 /dev/zero; } >$archive
        next; { good; printf 'trailing text'; } >$archive
        ;;
    fields)
        for i in ffffffff 80000000 7fffffff 00001000 fffffff0 0000000g \
            '-0000001' '+0000001' '0x000001'; do
            next; { entry a data 000081a4 00000002 "$i"; trailer; } >$archive
            next; { entry a data 000081a4 "$i"; trailer; } >$archive
            next; { entry a data "$i"; trailer; } >$archive
        done
        next; { entry a data 000081a4 00000000; trailer; } >$archive
        next; { entry a data 000081a4 00000001; trailer; } >$archive
        next; { entry a data 000081a4 00000002 00000004 070702; trailer; } >$archive
        next; { entry a data 000081a4 00000002 00000004 070707; trailer; } >$archive
        for i in 0000a1ff 0000c1ff 000061b0 000021b0 00001180 00000000; do
            next; { entry special target "$i"; trailer; } >$archive
        done
        ;;
    names)
        for i in '' . .. / // /abs ../up a/../b a//b 'a/b/c/d' dir/ \
            $'new\nline' 'TRAILER!!' "$(printf 'n%.0s' {1..300})" \
            "$(printf 'd/%.0s' {1..300})x" $'\377\376' '"' ' '; do
            next; { entry "$i" data; entry "$i" again; trailer; } >$archive
        done
        next; { entry a file; entry a/b below; trailer; } >$archive
        next; { entry a '' 000041ed; entry a file; trailer; } >$archive
        next; { entry a/b below; entry a file; trailer; } >$archive
        ;;
    esac
}

accepts() # image, archive
{
    qemu_with -initrd "$PWD/$2"
    guest -m 16M "$1" x
    case $status in
    0) grep -qx 'arg 1:x' out || fail "$2: the program did not run" ;;
    2) grep -q '^gneiss: .*initial files' err || fail "$2: nothing was said" ;;
    *) fail "$2: status $status" ;;
    esac
    ! grep -q '^panic\|^fatal' err || fail "$2: a report"
}

hostile_case() # kind, image
{
    local a
    make_archives "$1"
    for a in [0-9][0-9][0-9]; do
        accepts "$2" "$a"
        [ $failures = 0 ] || return
    done
}

# Bytes of a good archive changed at random, from a seed.
fuzz_case() # seed, image
{
    local i k size at
    RANDOM=$1
    good >whole
    size=$(wc -c <whole)
    for i in $(seq 40); do
        cp whole mutant
        for k in $(seq $((1 + RANDOM % 4))); do
            at=$((RANDOM % size))
            # shellcheck disable=SC2059 # a byte
            printf "\\x$(printf %02x $((RANDOM % 256)))" |
                dd of=mutant bs=1 seek=$at conv=notrunc status=none
        done
        accepts "$2" mutant
        [ $failures = 0 ] || { cp mutant "mutant-$i"; return; }
    done
}

# Many files, and one that is larger than memory would hold twice.
large_case() # image
{
    local i
    mkdir many
    for i in $(seq 2000); do
        echo "$i" >"many/file $i"
    done
    head -c 40000000 /dev/zero >large
    guest -m 64M -f many -f large "$1" many large
    status_is 0
    out_has '^dir many 2000$'
    out_has '^file large 40000000$'
}

# The heap: torture on all CPUs, and crimes that must be found.

for cpus in 1 2 4; do
    add "heap/torture-${cpus}cpu" tap -c "$cpus" @heap
done
add heap/torture-q35-qemu64 tap -M q35 --cpu qemu64 -c 2 -m 64M @heap 20000 5
add heap/torture-4M tap -c 1 -m 4M @heap 5000 11
add heap/torture-8M tap -M q35 --cpu qemu64 -c 1 -m 8M @heap 10000 12
add heap/torture-16M tap -c 2 -m 16M @heap 20000 3
add heap/torture-32M tap -M q35 -c 4 -m 32M @heap 20000 13
add heap/torture-2G tap -c 2 -m 2G @heap 5000 14
add heap/torture-8G tap -c 2 -m 8G @heap 20000 4
add heap/fill tap -c 2 -o heap.fill=1 @heap 10000 6
add heap/random tap -c 2 -o heap.random=1 @heap 10000 7
add heap/check tap -c 2 -o heap.check=1000 @heap 2000 8
add heap/guard tap -c 2 -o heap.guard=100 @heap 10000 9

# By the other compiler: in the guest, and the host tests, their threads under
# TSan once more.
add heap/other-torture tap -c 2 %heap 20000 10
add heap/other-api tap -c 2 -m 64M %heap_api 7
add heap/other-host other_host_case

other_host_case()
{
    local by=clang dir=build/host-tests-clang tsan=build/host-tests-tsan-clang t
    case $CC in *clang*) by=gcc dir=build/host-tests tsan=build/host-tests-tsan ;; esac
    (cd "$root" && make -s --no-print-directory CC=$by H=$dir host-tests-heap &&
        make -s --no-print-directory CC=$by H=$tsan san_flags=-fsanitize=thread \
            host-tests-threads) >make.log 2>&1 || {
        cat make.log
        fail "they can't be built"
        return
    }
    for t in "$root/$dir"/runtime/heap/test_* "$root/$tsan/runtime/heap/test_threads"; do
        [ -x "$t" ] && [ -f "$t" ] || continue
        CMOCKA_MESSAGE_OUTPUT=TAP timeout 300 "$t" >out.one 2>err
        status=$?
        sed "s,^,${t##*/}: ," err
        cat out.one
        status_is 0
        err_lacks "ThreadSanitizer"
        grep -c '^ok' out.one >>points
        grep -q '^not ok' out.one && fail "${t##*/}: see above"
    done
    note "$(wc -l <points) programs, $(awk '{ n += $1 } END { print n }' points) tests"
}

# Memory runs out in every call that allocates: one after the other, and from each
# on.
add heap/oom oom_case @heap_oom

oom_case() # image
{
    local i plus most=0 name
    : >names
    for plus in "" +; do
        # The C library has its own 38 or so before main.
        for i in $(seq 39 ${plus:+1}3 105) $(seq 106 120); do
            guest -o "heap.fail=$i$plus" "$1"
            status_is 0
            sed -n 's/^failed //p' out >>names
            [ -z "$plus" ] && [ "$(grep -c '^failed ' out)" -gt 1 ] &&
                fail "heap.fail=$i: more than one call failed"
            [ -n "$plus" ] && [ "$(grep -c '^failed ' out)" -gt $most ] &&
                most=$(grep -c '^failed ' out)
        done
    done
    for name in malloc calloc realloc reallocarray memalign aligned_alloc \
        posix_memalign gn_alloc_manual gn_alloc_scan gn_alloc_noscan \
        gn_alloc_tiny gn_alloc_aligned gn_realloc valloc pvalloc strdup growth; do
        grep -qx "$name" names || fail "$name never failed"
    done
    [ $most -ge 50 ] || fail "only $most calls failed at once"
    note "$(wc -l <names) calls failed, $(sort -u names | wc -l) kinds"
}

add heap/move tap -c 2 @heap_move

# What another CPU's cache holds comes before ENOMEM.
add heap/need tap -c 2 -m 32M @heap_need

heap_die() # which, options of the runner, regex...
{
    add "heap/die-$1" dies 2 "${@:3}" "#[0-9]+ .* main\+" -- $2 @heapdie "$1"
}

heap_die double '' '^panic: free of 0x[0-9a-f]+: freed already, or never' \
    'free object 0x[0-9a-f]+ of 112 bytes, span 0x'
heap_die double_other '' '^panic: free of 0x[0-9a-f]+: freed already'
heap_die double_large '' '^panic: free of 0x[0-9a-f]+: not an address of the heap'
add heap/die-double_remote dies 2 '^panic: free of 0x[0-9a-f]+: freed' \
    "#[0-9]+ .* par_entry" -- -c 2 @heapdie double_remote
add heap/die-double_slow dies 2 '^panic: free of 0x[0-9a-f]+: freed already' \
    "#[0-9]+ .* main" -- -c 2 @heapdie double_slow
add heap/die-realloc_remote dies 2 '^panic: realloc of 0x[0-9a-f]+: freed' \
    "#[0-9]+ .* main" -- -c 2 @heapdie realloc_remote
heap_die interior '' '^panic: free of 0x[0-9a-f]+: not the beginning of an' \
    '16 bytes into the allocated object 0x[0-9a-f]+ of 112 bytes'
heap_die interior_large '' '^panic: free of .*: not the beginning' \
    '4096 bytes into the allocated object'
heap_die unaligned '' '^panic: free of .*: not the beginning' '1 bytes into'
heap_die stack '' '^panic: free of 0x[0-9a-f]+, which is not an address of the heap'
heap_die bss '' '^panic: free of 0x[0-9a-f]+, which is not an address of the heap'
heap_die garbage '' '^panic: free of 0x123456789abcde0, which is not'
heap_die realloc_freed '' '^panic: realloc of .*: freed already'
heap_die use_after_free '-o heap.fill=1' \
    '^panic: heap: 0x[0-9a-f]+ was written to after it was freed .byte 50 of 112'
heap_die read_after_free '-o heap.efence=1' '^panic: .* memory access .read of' \
    'an object that was freed'
heap_die overrun '-o heap.efence=1' '^panic: invalid memory access .write of' \
    '0 bytes past the end of a guarded object of malloc'
heap_die overrun_by_one '-o heap.efence=1' \
    '^panic: heap: 0x[0-9a-f]+ was written to past its end .byte 100 of 100 is'
heap_die read_any_freed '-o heap.guard=1000' '^panic: .* memory access .read of' \
    'an object that was freed'
heap_die damage_small '' '^panic: heap: span 0x[0-9a-f]+ is damaged .object 0x[0-9a-f]+, class 9 of 112 bytes'
heap_die damage_larger '' '^panic: heap: span 0x[0-9a-f]+ is damaged .object 0x[0-9a-f]+, class'
heap_die damage '-o heap.check=1' '^panic: heap: page [0-9]+ belongs to a damaged span'

# The table of size classes is what its generator says.
add heap/classes-generated classes_case

classes_case()
{
    local dir=$root/runtime/heap/classes
    gcc -Wall -Wextra -o generate "$dir/generate.c" || fail "it does not compile"
    ./generate | cmp - "$dir/classes.h" || fail "classes.h is not its output"
}

# What calls may cost: instructions, the same in every run. The bounds are the
# goals (docs/benchmarks.md); where there is none, with room.
add heap/costs heap_costs @bench-guest @memload

heap_costs() # images
{
    local name value bound pair=40
    case $CC in *clang*) pair=42 ;; esac
    guest --icount -o seed=1 "$1"
    status_is 0
    awk '{ print $1, $2 }' out >figures
    guest --icount -o seed=1 "$2"
    status_is 0
    sed -n 's/^MEM \([a-z0-9]*\) .*ns_per_op=/\1 /p' out >>figures
    while read -r name bound; do
        value=$(awk -v n="$name" '$1 == n { print $2 }' figures)
        awk -v v="$value" -v b="$bound" 'BEGIN { exit !(v > 0 && v <= b) }' ||
            fail "$name is ${value:-missing}, at most $bound expected"
    done <<END
malloc_free_64 $pair
live_oldest 60
live_any 60
batch_in_order 90
batch_any_order 115
churn 110
realloc 60000
END
}

# <gneiss/heap.h>, call by call.
add heap/api tap -c 2 -m 64M @heap_api
add heap/api-q35-qemu64 tap -M q35 --cpu qemu64 -c 4 -m 256M @heap_api 3
add heap/api-32M tap -c 1 -m 32M @heap_api 5
heap_die tiny_double '' '^panic: free of 0x[0-9a-f]+: freed already'
heap_die tiny_interior '' '^panic: free of .*: not the beginning of an object'
heap_die tiny_usable '' '^panic: malloc_usable_size of .*: not the beginning of an object, or'
heap_die sized '' '^panic: gn_free_sized of .*: the object is smaller than the size'
heap_die free_sized '' '^panic: free_sized of .*: the object is smaller than the'
heap_die scan_double '' '^panic: free of 0x[0-9a-f]+: freed already'

# What gcc's analyzer finds in programs that use the heap badly.
add heap/analyzer analyzer_case

analyzer_case()
{
    local src=$root/host-tests/analyzer/bad.c name expected flags n=0
    read -ra flags < <("$root/tools/cflags" gcc)
    while read -r name expected; do
        gcc -std=gnu17 -O2 -fanalyzer -Wall -Wextra -c -o bad.o "-D$name" \
            "${flags[@]}" -nostdinc -isystem "$root/runtime/include/libc" \
            -isystem "$(gcc -print-file-name=include)" \
            -isystem "$root/build/newlib/x86_64-elf/include" \
            -I"$root/runtime/include" "$src" 2>warnings ||
            fail "$name does not compile: $(head -n 3 warnings)"
        n=$((n + 1))
        if [ "$expected" = none ]; then
            [ ! -s warnings ] || fail "$name is sound: $(head -n 3 warnings)"
        elif ! grep -q -e "\[$expected\]" warnings; then
            fail "$name: no $expected: $(head -n 3 warnings)"
        fi
    done < <(sed -n 's,^#ifdef \([A-Z_]*\) // ,\1 ,p' "$src")
    [ "$n" -ge 14 ] || fail "only $n programs were tried"
    note "$n programs"
}

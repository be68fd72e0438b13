# The heap as the malloc of Linux programs: arch/host/native, tools/bench-heap.

add host/native native_case

native_case()
{
    local dir=$O/bench/heap heap
    heap=$dir/libgneiss.so
    (cd "$root" && tools/bench-heap/run -b) || {
        fail "it can't be built"
        return
    }
    gcc -O2 -Wall -Wextra -Werror -fno-builtin -pthread -o program \
        "$root/host-tests/native/malloc.c" || fail "the program can't be built"
    LD_PRELOAD=$heap timeout 120 ./program >out || fail "status $?"
    out_is ok
    # Programs that others wrote: they start others, and pass on the heap.
    LD_PRELOAD=$heap timeout 120 bash -c 'for i in $(seq 300); do
        (echo "$i" | sort)
    done' >out || fail "bash: status $?"
    seq 300 >want
    same want out "what bash prints with another heap"
    LD_PRELOAD=$heap timeout 120 "$dir/blocks" >out || fail "blocks: status $?"
    cat out
    [ "$(sed 's/.*over \(-*[0-9]*\) KiB.*/\1/' out)" -le 16384 ] ||
        fail "100,000 blocks of 1,029 bytes take more than 16 MiB over"
    for i in 64 256 512 1024 2048 4096 8192 16384 32768; do
        LD_PRELOAD=$heap timeout 120 "$dir/cheese" $i >out || fail "cheese $i: status $?"
        cat out
        awk '{ for (i = 1; i < NF; i++) v[$i] = $(i + 1) }
            END { exit !(v["over"] != "" && v["over"] + 0 <= v["allowed"] + 0) }' out ||
            fail "cheese of $i KiB takes more than it may"
    done
    # All programs of the benchmark were built, and one runs: it looks at its blocks.
    for i in "$root"/tools/bench-heap/*.c; do
        [ -x "$dir/$(basename "$i" .c)" ] || [ "$(basename "$i")" = gneiss.c ] ||
            fail "$i was not built"
    done
    LD_PRELOAD=$heap timeout 120 "$dir/larson" 2 >out || fail "larson: status $?"
    # A pointer that is wrong is reported.
    printf '#include <stdlib.h>\nint main(void) { char *p = malloc(40); %s }\n' \
        'free(p); free(p);' >twice.c
    gcc -w -fno-builtin -o twice twice.c
    (LD_PRELOAD=$heap ./twice) 2>err
    err_has '^panic: free of 0x[0-9a-f]*: freed already'
}

# The collector: mutators that hide pointers, with gc.check=1.

for cpus in 1 2 4; do
    add "gc/mutators-${cpus}cpu" tap -c "$cpus" -m 128M -o gc.check=1 @gc_mutators
    add "gc/mutators-stress-${cpus}cpu" tap -c "$cpus" -m 128M -o "gc.check=1 stress=preempt seed=$cpus" @gc_mutators
    add "gc/mutators-q35-qemu64-${cpus}cpu" tap -M q35 --cpu qemu64 -c "$cpus" -m 128M -o gc.check=1 @gc_mutators
done
add gc/mutators-stw tap -c 2 -m 128M -o "gc.check=1 gc.mode=stw" @gc_mutators
add gc/mutators-48M tap -c 2 -m 48M -o gc.check=1 @gc_mutators

# Weak pointers, cleanups, finalizers.
for cpus in 1 2 4; do
    add "gc/special-${cpus}cpu" tap -c "$cpus" -m 128M -o gc.check=1 @gc_special
    add "gc/special-stress-${cpus}cpu" tap -c "$cpus" -m 128M -o "stress=preempt seed=$cpus" @gc_special
done

# malloc's blocks, collected; and whoever is lost, reported.
for cpus in 1 4; do
    add "gc/malloc-${cpus}cpu" tap -c "$cpus" -m 64M -o "malloc.gc=1 gc.check=1" @gc_malloc
done
add gc/malloc-lua malloc_lua_case @lua
malloc_lua_case() # image
{
    guest -m 32M -o malloc.gc=1 "$1" -e \
        't = {} for i = 1, 200000 do t[i % 100] = {i} end print(t[7][1])'
    status_is 0
    out_is 199907
}

# At least `least` blocks, made by a function of the app, are in a part of the report.
reported() # part, function, blocks at least
{
    local n
    n=$(sed -n "/^heap.leaks:.*$1/,/^heap.leaks:.*reached/p" err |
        awk -v fn=" $2+" '/ bytes in / { n = $4 } index($0, fn) { print n; exit }')
    [ "${n:-0}" -ge "$3" ] || fail "$2: ${n:-no} blocks in the part '$1', not $3"
}

leaks_case() # cpus, image
{
    guest -c "$1" "$2"
    status_is 0
    mv out plain
    guest -c "$1" -o heap.leaks=1 "$2"
    status_is 0
    same plain out "the program's output with and without the report"
    # What a register or an old frame still shows is not found.
    reported leaked parse 8
    reported leaked meet 18
    sed -n '/could still be reached/,$p' err >reached
    for fn in read_page ask open_window; do
        grep -q " $fn+" reached || fail "$fn is not in the report of what is left"
    done
    ! grep -q ' parse+\| meet+' reached || note "some are seen on the stack still"
}
for cpus in 1 2; do
    add "gc/leaks-${cpus}cpu" leaks_case $cpus @leaks
done

# The check can fail: each rule broken on purpose is found (gc.break), by the scene that
# needs it; and with all rules kept no scene loses its object.
add gc/rules tap --icount -o "gc.check=1 seed=1" @gc_break
for cpus in 1 2 4; do
    add "gc/rules-${cpus}cpu" tap -c "$cpus" -o gc.check=1 @gc_break
done
for i in ran/rbx ran/xmm3 registers/rbx-before stacks/frame past/past image/image \
    dirty/small dirty/medium dirty/large dirty/sparse dirty/block dirty/large-block \
    dirty/new shoot/twice shoot/twice-image manual/malloc timers/timer final/small \
    final/image move/move tiny/tiny; do
    add "gc/break-${i/\//-}" dies 2 '^panic: gc: .* which was not marked$' -- --icount \
        -o "gc.check=1 seed=1 gc.break=${i%/*}" @gc_break "${i#*/}"
done

# What is dropped goes.
for cpus in 1 2 4; do
    add "gc/precise-${cpus}cpu" tap -c "$cpus" -m 512M @gc_precise
done
add gc/precise-check tap -c 2 -m 256M -o "gc.check=1 stress=preempt seed=3" @gc_precise 30

# Marking touches no page that the program never touched.
add gc/sparse tap --icount -o "seed=1 heap.keep=1G" @gc_sparse
add gc/sparse-check tap -o "gc.check=1 heap.keep=1G" @gc_sparse
add gc/sparse-stw tap -o "gc.mode=stw heap.keep=1G" @gc_sparse
add gc/sparse-2cpu tap -c 2 -o heap.keep=1G @gc_sparse

# Each request for memory fails, the collector's own among them: in a boot of its own,
# since it keeps what it got.
for cpus in 1 2; do
    for i in first/10 gc/$((cpus + 1)) grow/60 auto/40; do
        add "gc/oom-${i%/*}-${cpus}cpu" gc_oom_case "$cpus" "${i%/*}" "${i#*/}" @gc_oom
    done
done
add gc/oom-build gc_oom_build @gc_oom

gc_oom_case() # cpus, scene, points at least, image
{
    local n plus points
    for plus in "" +; do
        points=0
        for n in $(seq 1 "$3"); do
            guest -c "$1" "$4" "$2" "$n$plus" >one
            check_tap out "# end" >one
            status_is 0
            grep -qx '# failed 0' out || points=$((points + 1))
        done
        [ $points = "$3" ] || fail "only $points of $3 points failed"
    done
    note "$((2 * $3)) points failed"
}

gc_oom_build() # image
{
    local n plus points=0
    for plus in "" +; do
        # The C library has its own 38 or so before main.
        for n in $(seq 39 ${plus:+50} 60) $(seq 61 211 6500); do
            guest -o "heap.fail=$n$plus gc.check=1" "$1" build >one
            check_tap out "# end" >one
            status_is 0
            grep -qx '# failed 0' out || points=$((points + 1))
        done
    done
    [ $points -ge 70 ] || fail "only $points points failed"
    note "$points points failed"
}

# Frees, reallocs and unmappings against markers and sweepers.
for cpus in 1 2 4; do
    add "gc/free-${cpus}cpu" tap -c "$cpus" -m 128M -o gc.check=1 @gc_free 5000
    add "gc/free-stress-${cpus}cpu" tap -c "$cpus" -m 128M -o "gc.check=1 stress=preempt seed=$cpus" @gc_free 2000 "$cpus"
done

# Loops whose pointer is the only one to their array, with collections in them.
add gc/idioms tap --icount -o "seed=1 gc.check=1" @gc_idioms
add gc/idioms-other tap --icount -o "seed=1 gc.check=1" %gc_idioms

# Options: what is wrong is said, and what is right does what it says.
for i in gc.mode=x gc.mode= gc.mode=concurrentx gc.mode=conc gc.percent=-1 gc.percent=x \
    gc.percent=1000001 gc.trace=2 gc.check=yes gc.break=x gc.break=; do
    add "gc/option-$i" dies 2 "^gneiss: option $i: " -- -o "$i" @hello
done
add gc/trace gc_trace_case @gc_precise
add gc/never gc_never_case @gc_percent

# Two lines for each collection, all alike.
gc_trace_case() # image
{
    local lines
    guest -o gc.trace=1 "$1" 10
    status_is 0
    lines=$(grep -cE '^gc [0-9]+ @[0-9]+\.[0-9]{3}s: [0-9]+\.[0-9]{2}\+[0-9]+\.[0-9]{2}\+[0-9]+\.[0-9]{2} ms, [0-9]+->[0-9]+->[0-9]+ KiB, [0-9]+ KiB goal, 1 CPUs$' err)
    [ "$lines" -ge 10 ] || fail "only $lines collections have a line"
    [ "$lines" = "$(grep -c '^gc ' err)" ] || fail "a line of another form"
    [ "$lines" = "$(grep -cE '^   rounds [0-9]+ \([0-9]+ pages\), final stop: [0-9]+ dirty pages; [0-9]+ goroutines with [0-9]+ stack pages; [0-9]+ objects marked, [0-9]+ KiB scanned$' err)" ] ||
        fail "not as many second lines"
    sed -n 's/^gc \([0-9]*\) .*/\1/p' err | sort -n -c || fail "not in order"
    seq 1 "$lines" >numbers
    sed -n 's/^gc \([0-9]*\) .*/\1/p' err >found
    same numbers found "the numbers of collections"
    note "$lines collections"
}

gc_never_case() # image
{
    tap "$1"
    tap -o gc.percent=1000 "$1" 1000
    tap -o gc.percent=0 "$1" 0
}

# Channels, timers, contexts, arguments: nobody frees them.
for cpus in 1 2 4; do
    add "gc/runtime-${cpus}cpu" tap -c "$cpus" -m 24M -o gc.check=1 @gc_runtime
done
add gc/runtime-stress tap -c 2 -m 24M -o "gc.check=1 stress=preempt seed=1" @gc_runtime

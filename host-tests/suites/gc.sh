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

# Goroutines: on all CPUs, machines and CPU models, preempted at random.

for cpus in 1 2 4; do
    add "go/goroutines-${cpus}cpu" tap -c "$cpus" @goroutines
    add "go/event-${cpus}cpu" tap -c "$cpus" @event
    add "go/goroutines-q35-qemu64-${cpus}cpu" tap -M q35 --cpu qemu64 -c "$cpus" -m 64M @goroutines
done
add go/goroutines-4M tap -m 4M @goroutines 1
for seed in $(seq 1 20); do
    add "go/preempt-$seed" tap -c $((1 + seed % 4)) -o "stress=preempt seed=$seed" @goroutines 1
done

# Counted, the same seed preempts at the same instructions.
repeat_case() # image
{
    guest --icount -o "stress=preempt seed=7" "$1" 1
    status_is 0
    mv out first
    guest --icount -o "stress=preempt seed=7" "$1" 1
    status_is 0
    same first out "two runs with the same seed"
}
add go/preempt-repeats repeat_case @goroutines
add options/stress bad_option 'stress=oom: preempt: goroutines' @hello stress=oom

waiter='^goroutine [0-9]+ \[sync\.WaitGroup\.Wait\]: waiter'
sleeper='^goroutine [0-9]+ \[sleep\]: sleeper'
looper='^goroutine [0-9]+ \[(runnable|running)\]: looper'
for cpus in 1 2; do
    add "go/dump-panic-${cpus}cpu" dies 2 '^panic: nil pointer' "$waiter" "$sleeper" "$looper" \
        "#[0-9]+ .* wait_for_ever\+" "#[0-9]+ .* sleep_long\+" -- -c $cpus @godie panic
done
add go/dump-negative dies 2 '^panic: sync: negative WaitGroup counter' "$waiter" -- -c 2 @godie negative

watch_case() # image
{
    guest -c 2 -o sched.dump=1 "$1" watch
    status_is 0
    err_has '^4 goroutines, [0-9]+ s after boot:'
    err_has "$waiter"
    err_has "$looper"
    err_has '^goroutine 1 \[sleep\]: main'
}
add go/dump-watch watch_case @godie

add go/overflow dies 2 '^runtime: goroutine stack exceeds 1048576-byte limit' \
    '^fatal error: stack overflow \(goroutine [0-9]+, deep\)' "$waiter" -- -c 2 @godie overflow
add go/overflow-option dies 2 '^runtime: goroutine stack exceeds 524288-byte limit' -- \
    -o stack.limit=512K @mustdie stack_overflow
add go/many-1cpu tap -m 1G @many 100000
add go/many-2cpu tap -c 2 -m 1G @many 100000

# Lines that goroutines print are whole.
lines_case() # image
{
    guest -c 4 -o "stress=preempt seed=3" "$1" 1
    status_is 0
    [ "$(grep -cE '^# ([0-9]+) \1 \1 \1$' out)" = 150 ] || fail "not 150 lines as they were printed"
}
add go/lines lines_case @goroutines

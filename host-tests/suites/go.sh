# Goroutines: on all CPUs, machines and CPU models, preempted at random.

for cpus in 1 2 4; do
    add "go/goroutines-${cpus}cpu" tap -c "$cpus" @goroutines
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

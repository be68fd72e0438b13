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

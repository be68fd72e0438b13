# A program's end: its status, by every way out.

for n in 0 1 2 3 127 128 134 255; do
    add status/return-$n status_case $n @status $n return
done
add status/exit-300 status_case 44 @status 300 exit
add status/_exit-7 status_case 7 @status 7 _exit
add status/hang hang_case @status
add status/make-run make_run_case @status

status_case() # status, guest...
{
    guest "${@:2}"
    status_is "$1"
}

hang_case() # image
{
    TIMEOUT_S=1
    guest "$1" 0 hang
    status_is 124
    err_has 'timed out after 1 s'
}

# `make run` succeeds if and only if the status was 0, and names it last.
make_run_case()
{
    make -s --no-print-directory -C "$root" CC="$CC" O="${O#"$root"/}" \
        run APP=host-tests/guest/status.c ARGS=0 >out 2>err ||
        fail "make run fails although the status was 0"
    make -s --no-print-directory -C "$root" CC="$CC" O="${O#"$root"/}" \
        run APP=host-tests/guest/status.c ARGS=3 >out 2>err &&
        fail "make run succeeds although the status was 3"
    tail -n 1 err | grep -qw 3 ||
        fail "the last line does not name the status: $(tail -n 1 err)"
}

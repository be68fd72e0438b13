// What tools/bench-sync.c does, in Go.
//
// usage: sync NAME | insns
//
// insns: all, in a guest whose clock counts instructions, one for a nanosecond.
package main

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

var start = time.Now()

func clock() time.Duration { return time.Since(start) }

func cpu() time.Duration {
	var r syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

var ping, pong chan int

func pingpongStart() {
	ping, pong = make(chan int), make(chan int)
	go func() {
		for v := range ping {
			pong <- v
		}
	}()
	runtime.Gosched()
}

func pingpong(n int) {
	for i := 0; i < n; i++ {
		ping <- 1
		<-pong
	}
}

func buffered(n int) {
	c := make(chan int, 1)
	for i := 0; i < n; i++ {
		c <- 1
		<-c
	}
}

func selectTwo(n int) {
	a, b := make(chan int, 1), make(chan int, 1)
	a <- 0
	for i := 0; i < n; i++ {
		select {
		case <-a:
			b <- 0
		case <-b:
			a <- 0
		}
	}
}

func selectDefault(n int) {
	a, b := make(chan int, 1), make(chan int, 1)
	for i := 0; i < n; i++ {
		select {
		case <-a:
			os.Exit(1)
		case <-b:
			os.Exit(1)
		default:
		}
	}
}

var sink chan int

func makeChan(n int) {
	for i := 0; i < n; i++ {
		sink = make(chan int)
	}
}

func fourByFour(n int) {
	var done sync.WaitGroup
	c := make(chan int, 128)
	for i := 0; i < 4; i++ {
		done.Add(2)
		go func() {
			for i := 0; i < n/4; i++ {
				c <- i
			}
			done.Done()
		}()
		go func() {
			for i := 0; i < n/4; i++ {
				<-c
			}
			done.Done()
		}()
	}
	done.Wait()
}

func sieve(n int) {
	c, prime := make(chan int), 0
	go func(out chan int) {
		for i := 2; ; i++ {
			out <- i
		}
	}(c)
	for i := 0; i < n; i++ {
		prime = <-c
		next := make(chan int)
		go func(in, out chan int, prime int) {
			for {
				if i := <-in; i%prime != 0 {
					out <- i
				}
			}
		}(c, next, prime)
		c = next
	}
	if n == 2000 && prime != 17389 {
		os.Exit(1)
	}
}

func mutex(n int) {
	var m sync.Mutex
	for i := 0; i < n; i++ {
		m.Lock()
		m.Unlock()
	}
}

func waitGroup(n int) {
	var w sync.WaitGroup
	for i := 0; i < n; i++ {
		w.Add(1)
		w.Done()
	}
}

func afterFunc(n int) {
	for i := 0; i < n; i++ {
		time.AfterFunc(time.Hour, func() {}).Stop()
	}
}

//go:noinline
func panicNow() {
	panic("bench")
}

func try() {
	defer func() { _ = recover() }()
	panicNow()
}

func panicRecover(n int) {
	for i := 0; i < n; i++ {
		try()
	}
}

var rows = []struct {
	name      string
	start     func()
	fn        func(int)
	n, longer int
	total     bool
}{
	{"sync_pingpong", pingpongStart, pingpong, 20000, 100, false},
	{"sync_buffered", nil, buffered, 20000, 500, false},
	{"sync_select_two", nil, selectTwo, 20000, 200, false},
	{"sync_select_default", nil, selectDefault, 20000, 500, false},
	{"sync_make_chan", nil, makeChan, 20000, 500, false},
	{"sync_four_by_four", nil, fourByFour, 40000, 100, false},
	{"sync_mutex", nil, mutex, 20000, 1000, false},
	{"sync_wait_group", nil, waitGroup, 20000, 1000, false},
	{"sync_after_func", nil, afterFunc, 20000, 100, false},
	{"sync_panic", nil, panicRecover, 20000, 200, false},
	{"sync_sieve", nil, sieve, 2000, 1, true},
}

func main() {
	insns := os.Args[1] == "insns"
	for _, r := range rows {
		if !insns && os.Args[1] != r.name {
			continue
		}
		now, n := cpu, r.n*r.longer
		if insns {
			now, n = clock, r.n
		}
		if r.start != nil {
			r.start()
		}
		before := now()
		r.fn(n)
		took := float64(now() - before)
		if !r.total {
			took /= float64(n)
		}
		fmt.Printf("%s %.1f\n", r.name, took)
	}
	fmt.Println("end")
}

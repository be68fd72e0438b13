// What tools/bench-go.c, tools/bench-sort.c and apps/pwordcount do, in Go.
//
// usage: goroutines yield|handoff|channel|create | sort NUMBERS | words FILE | insns
//
// insns: in a guest whose clock counts instructions, one for a nanosecond; the same
// figures as bench-go without an argument.
package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	longer = 100 // natively
	parked = 100000
	alone  = 8192 // numbers: no goroutine for fewer
	block  = 65536
)

var turns, created = 20000, 2000

var start = time.Now()

func clock() time.Duration {
	return time.Since(start)
}

// What figures count in: CPU time of the process, or instructions.
var now = cpu

func cpu() time.Duration {
	var r syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func result(name string, start time.Duration, n int) {
	fmt.Printf("%s %.1f\n", name, float64(now()-start)/float64(n))
}

// ---- switching ----

func yields() {
	var done sync.WaitGroup
	done.Add(2)
	often := func() {
		for i := 0; i < turns; i++ {
			runtime.Gosched()
		}
		done.Done()
	}
	go often()
	go often()
	start := now()
	done.Wait()
	result("go_yield", start, 2*turns)
}

// Each wakes the other and waits for it.
func handoff() {
	var ping, pong sync.WaitGroup
	ping.Add(1)
	pong.Add(1)
	go func() {
		for i := 0; i < turns; i++ {
			ping.Wait()
			ping.Add(1)
			pong.Done()
		}
	}()
	runtime.Gosched()
	start := now()
	for i := 0; i < turns; i++ {
		ping.Done()
		pong.Wait()
		pong.Add(1)
	}
	result("go_handoff", start, 2*turns)
}

// The same as most would write it.
func channel() {
	ping, pong := make(chan struct{}), make(chan struct{})
	go func() {
		for i := 0; i < turns; i++ {
			<-ping
			pong <- struct{}{}
		}
	}()
	runtime.Gosched()
	start := now()
	for i := 0; i < turns; i++ {
		ping <- struct{}{}
		<-pong
	}
	result("go_handoff_channel", start, 2*turns)
}

func create() {
	var done sync.WaitGroup
	start := now()
	for i := 0; i < created; i++ {
		done.Add(1)
		go func() { done.Done() }()
		done.Wait()
	}
	result("go_create", start, created)
}

// All of them wait at a gate.
func park() {
	var gate, done sync.WaitGroup
	var there atomic.Int32
	gate.Add(1)
	done.Add(parked)
	start := now()
	for i := 0; i < parked; i++ {
		go func() {
			there.Add(1)
			gate.Wait()
			done.Done()
		}()
	}
	for there.Load() < parked {
		runtime.Gosched()
	}
	result("go_parked", start, parked)
	gate.Done()
	done.Wait()
}

// ---- stacks ----

//go:noinline
func deep(bytes int) int {
	var frame [1000]byte
	frame[bytes&511] = 1
	if bytes <= 0 {
		return 0
	}
	return deep(bytes-1040) + int(frame[0])
}

func descend(bytes int) {
	var done sync.WaitGroup
	done.Add(1)
	go func() {
		start := now()
		deep(bytes)
		first := now() - start
		start = now()
		deep(bytes)
		again := now() - start
		fmt.Printf("go_descent_%dk %d\ngo_descent_%dk_again %d\n",
			bytes/1000, first, bytes/1000, again)
		done.Done()
	}()
	done.Wait()
}

func insns() {
	now = clock
	yields()
	handoff()
	channel()
	create()
	create()
	descend(10000)
	descend(590000)
	park()
}

// ---- merge sort ----

func merge(v, spare []uint32, mid int) {
	copy(spare, v[:mid])
	i, k := 0, mid
	for to := 0; i < mid; to++ {
		if k < len(v) && v[k] < spare[i] {
			v[to] = v[k]
			k++
		} else {
			v[to] = spare[i]
			i++
		}
	}
}

func mergeSort(v, spare []uint32) {
	if len(v) < 2 {
		return
	}
	mid := len(v) / 2
	if len(v) < alone {
		mergeSort(v[:mid], spare[:mid])
		mergeSort(v[mid:], spare[mid:])
	} else {
		var done sync.WaitGroup
		done.Add(1)
		go func() {
			mergeSort(v[:mid], spare[:mid])
			done.Done()
		}()
		mergeSort(v[mid:], spare[mid:])
		done.Wait()
	}
	merge(v, spare, mid)
}

func sortNumbers(n int) {
	v, spare := make([]uint32, n), make([]uint32, n)
	rng := uint32(1)
	for i := range v {
		rng = rng*1664525 + 1013904223
		v[i] = rng
		spare[i] = 0
	}
	wall, start := time.Now(), cpu()
	mergeSort(v, spare)
	fmt.Printf("sort_wall %.3f\nsort_cpu %.3f\n",
		time.Since(wall).Seconds()*1e3, (cpu()-start).Seconds()*1e3)
	for i := 1; i < n; i++ {
		if v[i-1] > v[i] {
			os.Exit(1)
		}
	}
}

// ---- words ----

func isLetter(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z'
}

type place struct {
	busy   sync.WaitGroup
	counts map[string]*int
	bytes  []byte
	word   []byte
}

func (p *place) end() {
	if len(p.word) == 0 {
		return
	}
	if n := p.counts[string(p.word)]; n != nil {
		*n++
	} else {
		one := 1
		p.counts[string(p.word)] = &one
	}
	p.word = p.word[:0]
}

func (p *place) count() {
	for _, c := range p.bytes {
		if isLetter(c) {
			p.word = append(p.word, c|0x20)
		} else {
			p.end()
		}
	}
	p.end()
	p.busy.Done()
}

func countWords(name string) {
	f, err := os.Open(name)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	places := make([]place, 2*runtime.GOMAXPROCS(0))
	for i := range places {
		places[i].counts = map[string]*int{}
	}
	var rest []byte
	for at := 0; ; at = (at + 1) % len(places) {
		p := &places[at]
		p.busy.Wait()
		p.bytes = append(p.bytes[:0], rest...)
		old := len(p.bytes)
		p.bytes = append(p.bytes, make([]byte, block)...)
		n, err := io.ReadFull(f, p.bytes[old:])
		p.bytes = p.bytes[:old+n]
		whole := len(p.bytes)
		for err == nil && whole > 0 && isLetter(p.bytes[whole-1]) {
			whole--
		}
		rest = append([]byte(nil), p.bytes[whole:]...)
		p.bytes = p.bytes[:whole]
		p.busy.Add(1)
		go p.count()
		if err != nil {
			break
		}
	}
	type pair struct {
		word string
		n    int
	}
	all := map[string]int{}
	for i := range places {
		places[i].busy.Wait()
		for w, n := range places[i].counts {
			all[w] += *n
		}
	}
	pairs := make([]pair, 0, len(all))
	for w, n := range all {
		pairs = append(pairs, pair{w, n})
	}
	sort.Slice(pairs, func(i, k int) bool {
		return pairs[i].n > pairs[k].n || pairs[i].n == pairs[k].n && pairs[i].word < pairs[k].word
	})
	for i := 0; i < len(pairs) && i < 20; i++ {
		fmt.Printf("%7d %s\n", pairs[i].n, pairs[i].word)
	}
}

func main() {
	if os.Args[1] != "insns" {
		turns *= longer
		created *= longer
	}
	run := map[string]func(){"yield": yields, "handoff": handoff, "channel": channel, "create": create, "insns": insns,
		"sort": func() {
			n, _ := strconv.Atoi(os.Args[2])
			sortNumbers(n)
		},
		"words": func() { countWords(os.Args[2]) }}[os.Args[1]]
	run()
	if os.Args[1] != "words" {
		fmt.Println("end")
	}
}

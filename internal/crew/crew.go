// Package crew runs jobs that are too short to queue for anything, on all cores.
package crew

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
)

// Crew runs jobs on all cores while its owner, who is one of it, finds more of them. The zero value is ready. It belongs to
// one goroutine, which must wait for it.
type Crew struct {
	workers int
	wg      sync.WaitGroup

	mu   sync.Mutex
	news sync.Cond
	jobs []*job
	next int // the job that nobody has begun
	full bool
}

type job struct {
	run      func() error
	err      error
	panicked string
}

// Add leaves a job to whoever is free.
func (c *Crew) Add(run func() error) {
	c.mu.Lock()
	c.news.L = &c.mu
	c.jobs = append(c.jobs, &job{run: run})
	c.mu.Unlock()
	c.news.Signal()
	if c.workers < runtime.GOMAXPROCS(0)-1 {
		c.workers++
		c.wg.Go(c.work)
	}
}

// Wait does the last jobs, helps with the others until all is done, and returns the error of the first that has one. A panic
// becomes the caller's. What is called again does nothing and returns the same.
func (c *Crew) Wait(last ...func() error) error {
	c.mu.Lock()
	c.news.L = &c.mu
	for _, run := range last {
		c.jobs = append(c.jobs, &job{run: run})
	}
	c.full = true
	c.mu.Unlock()
	c.news.Broadcast()
	c.work()
	c.wg.Wait()
	for _, j := range c.jobs {
		if j.panicked != "" {
			panic(j.panicked)
		}
	}
	for _, j := range c.jobs {
		if j.err != nil {
			return j.err
		}
	}
	return nil
}

// Each calls f with every number below n, in any order and on all cores, and returns the error of the lowest that has one. A
// panic becomes the caller's.
func Each(n int, f func(i int) error) error {
	var c Crew
	size := max(1, n/(chunks*runtime.GOMAXPROCS(0)))
	for from := 0; from < n; from += size {
		run := func() error { return some(from, min(from+size, n), f) }
		if from+size >= n {
			return c.Wait(run)
		}
		c.Add(run)
	}
	return nil
}

// chunks are made for each core, so that all end at about the same time.
const chunks = 8

func some(from, to int, f func(i int) error) (first error) {
	for i := from; i < to; i++ {
		if err := f(i); err != nil && first == nil {
			first = err
		}
	}
	return first
}

func (c *Crew) work() {
	for j := c.begin(); j != nil; j = c.begin() {
		j.do()
	}
}

// begin returns the next job, nil when there will be none.
func (c *Crew) begin() *job {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.next == len(c.jobs) && !c.full {
		c.news.Wait()
	}
	if c.next == len(c.jobs) {
		return nil
	}
	c.next++
	return c.jobs[c.next-1]
}

func (j *job) do() {
	defer func() {
		if r := recover(); r != nil {
			j.panicked = fmt.Sprintf("%v\n%s", r, debug.Stack())
		}
	}()
	j.err = j.run()
}

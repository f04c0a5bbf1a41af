package xds

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
)

// crew runs jobs on all cores while its owner, who is one of it, finds more of them. It belongs to one goroutine, which
// must wait for it.
type crew struct {
	workers int
	wg      sync.WaitGroup

	mu   sync.Mutex
	news *sync.Cond
	jobs []*job
	next int // the job that nobody has begun
	full bool
}

type job struct {
	run      func() error
	err      error
	panicked string
}

func newCrew() *crew {
	c := &crew{}
	c.news = sync.NewCond(&c.mu)
	return c
}

// add leaves a job to whoever is free.
func (c *crew) add(run func() error) {
	c.mu.Lock()
	c.jobs = append(c.jobs, &job{run: run})
	c.mu.Unlock()
	c.news.Signal()
	if c.workers < runtime.GOMAXPROCS(0)-1 {
		c.workers++
		c.wg.Go(c.work)
	}
}

func (c *crew) work() {
	for j := c.begin(); j != nil; j = c.begin() {
		j.do()
	}
}

// begin returns the next job, nil when there will be none.
func (c *crew) begin() *job {
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

// wait helps until all is done, and returns the error of the first job that has one. A panic becomes the caller's.
func (c *crew) wait() error {
	c.mu.Lock()
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

// sideBySide runs jobs as a crew does.
func sideBySide(jobs []func() error) error {
	c := newCrew()
	for _, run := range jobs {
		c.add(run)
	}
	return c.wait()
}

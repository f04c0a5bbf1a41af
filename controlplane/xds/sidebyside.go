package xds

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// fewTasks are not worth another goroutine.
const fewTasks = 64

// sideBySide runs tasks on all cores and returns the error of the first of them that has one. A panic becomes the caller's.
func sideBySide(tasks []func() error) error {
	errs := make([]error, len(tasks))
	var next atomic.Int64
	var panicked atomic.Pointer[string]
	run := func() {
		defer func() {
			if r := recover(); r != nil {
				text := fmt.Sprintf("%v\n%s", r, debug.Stack())
				panicked.CompareAndSwap(nil, &text)
			}
		}()
		for i := next.Add(1) - 1; i < int64(len(tasks)); i = next.Add(1) - 1 {
			errs[i] = tasks[i]()
		}
	}
	workers := runtime.GOMAXPROCS(0)
	if len(tasks) < fewTasks {
		workers = 1
	}
	var wg sync.WaitGroup
	for range workers - 1 {
		wg.Go(run)
	}
	run()
	wg.Wait()
	if text := panicked.Load(); text != nil {
		panic(*text)
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

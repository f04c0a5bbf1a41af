package crew

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// onCores runs f with one core, with two, and with more than there are.
func onCores(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	for _, n := range []int{1, 2, 8} {
		t.Run(fmt.Sprintf("%d cores", n), func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(n))
			f(t)
		})
	}
}

func TestCrew(t *testing.T) {
	onCores(t, func(t *testing.T) {
		var done atomic.Int64
		var c Crew
		job := func(i int) func() error {
			return func() error {
				done.Add(1)
				if i >= 500 {
					return fmt.Errorf("job %d", i)
				}
				return nil
			}
		}
		for i := range 1000 {
			c.Add(job(i))
		}
		for range 2 {
			if err := c.Wait(); err == nil || err.Error() != "job 500" || done.Load() != 1000 {
				t.Errorf("%d jobs done, error %v", done.Load(), err)
			}
		}
		var other Crew
		other.Add(job(1))
		if err := other.Wait(job(500), job(501)); err == nil || err.Error() != "job 500" || done.Load() != 1003 {
			t.Errorf("%d jobs done, error %v", done.Load(), err)
		}
		var none Crew
		if err := none.Wait(); err != nil {
			t.Error(err)
		}
	})
}

func TestPanic(t *testing.T) {
	onCores(t, func(t *testing.T) {
		var done atomic.Int64
		defer func() {
			if r := fmt.Sprint(recover()); !strings.Contains(r, "too bad") || done.Load() != 1 {
				t.Errorf("%d jobs done, recovered %s", done.Load(), r)
			}
		}()
		var c Crew
		c.Add(func() error { return errors.New("an error is less than a panic") })
		c.Add(func() error { panic("too bad") })
		c.Add(func() error { done.Add(1); return nil })
		_ = c.Wait()
		t.Error("the panic is lost")
	})
}

func TestEach(t *testing.T) {
	onCores(t, func(t *testing.T) {
		for _, n := range []int{0, 1, 2, 7, 63, 64, 65, 1000} {
			seen := make([]atomic.Int64, n)
			err := Each(n, func(i int) error {
				seen[i].Add(1)
				if i >= n/2 {
					return fmt.Errorf("%d", i)
				}
				return nil
			})
			for i := range seen {
				if seen[i].Load() != 1 {
					t.Errorf("%d of %d was done %d times", i, n, seen[i].Load())
				}
			}
			if want := fmt.Sprint(n / 2); n > 0 && (err == nil || err.Error() != want) || n == 0 && err != nil {
				t.Errorf("of %d: error %v, want %s", n, err, want)
			}
		}
	})
}

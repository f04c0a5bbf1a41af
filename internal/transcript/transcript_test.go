package transcript

import (
	"fmt"
	"testing"
)

func TestAwait(t *testing.T) {
	o := New()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 100 {
			fmt.Fprintf(o, "%d,", i)
		}
	}()
	o.Await(t, "41,42,43") // over several writes
	<-done
	o.Await(t, "99,") // already there
	if got := o.String(); got[:6] != "0,1,2," {
		t.Errorf("got %s", got)
	}
}

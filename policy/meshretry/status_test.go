package meshretry

import (
	"net/http"
	"testing"
)

func TestIsStatus(t *testing.T) {
	for n := range 1000 {
		if got, want := isStatus(n), http.StatusText(n) != ""; got != want {
			t.Errorf("isStatus(%d) = %v, want %v", n, got, want)
		}
	}
}

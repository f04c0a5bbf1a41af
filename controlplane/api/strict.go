package api

import (
	"fmt"
	"net/http"
	"time"

	"github.com/kuma-dp/kuma-dp/internal/mtlsreport"
	"github.com/kuma-dp/kuma-dp/resource"
)

// StrictChange is what a change that makes inbounds strict means to those who come without an identity of the mesh. Each line
// is about an inbound.
type StrictChange struct {
	// Breaks are inbounds that somebody is known to lose.
	Breaks []string
	// Unready are those where nobody can tell, or where it is too early to.
	Unready []string
}

// maxStrictLines bounds what an answer names of each list.
const maxStrictLines = 20

// Quiet reads how long nobody may have come without an identity: a Go duration, an hour when it is empty or "true".
func Quiet(text string) (time.Duration, error) {
	if text == "" || text == "true" {
		return mtlsreport.DefaultQuiet, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, Invalid("invalid time", badRequest, resource.Violation{Reason: fmt.Sprintf("%.40q is no time such as 30m or 24h", text)})
	}
	return d, nil
}

// strict warns of whom a change shuts out. With `?requireReady=`, a time as Quiet reads it or true, the change is refused unless
// every inbound that becomes strict is ready.
func (s *Server) strict(r *http.Request, old, next *resource.Resource) (warnings []string, err error) {
	if s.cfg.StrictChange == nil {
		return nil, nil
	}
	q := r.URL.Query()
	quiet, err := Quiet(q.Get("requireReady"))
	if err != nil {
		return nil, err
	}
	change, err := s.cfg.StrictChange(old, next, quiet)
	if err != nil || change == nil {
		return nil, err
	}
	if !q.Has("requireReady") || len(change.Breaks)+len(change.Unready) == 0 {
		return few(change.Breaks), nil
	}
	e := &Error{
		Status: http.StatusConflict, Title: "Not ready for strict mTLS",
		Detail: fmt.Sprintf("nothing was changed: inbounds that would shut somebody out: %d, of which it is not known: %d", len(change.Breaks), len(change.Unready)),
	}
	for _, text := range append(few(change.Breaks), few(change.Unready)...) {
		e.Invalid = append(e.Invalid, resource.Violation{Field: "inbound", Reason: text})
	}
	return nil, e
}

func few(lines []string) []string {
	if n := len(lines) - maxStrictLines; n > 0 {
		return append(lines[:maxStrictLines:maxStrictLines], fmt.Sprintf("and %d more inbounds: see kumactl inspect mtls", n))
	}
	return lines
}

package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/token"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Error is an answer that says why not (contract controlplane.md §2.2).
type Error struct {
	Status int
	Title  string
	Detail string
	// Invalid names the fields at fault.
	Invalid []resource.Violation
	// Cause is logged but not sent.
	Cause error
}

// Error returns title and detail for logs.
func (e *Error) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%s: %s: %v", e.Title, e.Detail, e.Cause)
	}
	return e.Title + ": " + e.Detail
}

// Unwrap returns Cause.
func (e *Error) Unwrap() error { return e.Cause }

// NotFound is the answer about a resource that is not there.
func NotFound(title string) *Error {
	return &Error{Status: http.StatusNotFound, Title: title, Detail: "Not found"}
}

// Invalid is the answer to a body or query with faults.
func Invalid(title, detail string, faults ...resource.Violation) *Error {
	return &Error{Status: http.StatusBadRequest, Title: title, Detail: detail, Invalid: faults}
}

const (
	notValid   = "Resource is not valid"
	badRequest = "Bad Request"
)

// wrap turns an error of a room below into an answer with the title of the operation.
func wrap(title string, err error) error {
	var e *Error
	switch {
	case err == nil || errors.As(err, &e):
		return err
	case errors.Is(err, store.ErrNotFound):
		return NotFound(title)
	case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrExists):
		return &Error{Status: http.StatusConflict, Title: "Conflict", Detail: err.Error(), Cause: err}
	case errors.Is(err, store.ErrNoMesh):
		return Invalid(title, "Mesh is not found", resource.Violation{Field: "mesh", Reason: "mesh is not found"})
	case errors.Is(err, token.ErrNoSigningKey):
		return &Error{Status: http.StatusNotFound, Title: "Signing Key not found", Detail: err.Error(), Cause: err}
	case errors.Is(err, store.ErrClosed):
		return &Error{Status: http.StatusServiceUnavailable, Title: "Service unavailable", Detail: "control plane is stopping", Cause: err}
	default:
		return &Error{Status: http.StatusInternalServerError, Title: title, Detail: "Internal Server Error", Cause: err}
	}
}

type errorBody struct {
	Type    string         `json:"type"`
	Status  int            `json:"status"`
	Title   string         `json:"title"`
	Detail  string         `json:"detail"`
	Invalid []invalidParam `json:"invalid_parameters,omitempty"`
	// Details and Causes repeat the above for old clients.
	Details string  `json:"details"`
	Causes  []cause `json:"causes,omitempty"`
}

type invalidParam struct {
	Field  string `json:"field"`
	Reason string `json:"reason"`
}

type cause struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	var e *Error
	if !errors.As(wrap("Could not process the request", err), &e) {
		return
	}
	if e.Status >= http.StatusInternalServerError {
		s.cfg.Log.Error("answer request", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	body := errorBody{Type: "/std-errors", Status: e.Status, Title: e.Title, Detail: e.Detail, Details: e.Detail}
	for _, v := range e.Invalid {
		body.Invalid = append(body.Invalid, invalidParam(v))
		body.Causes = append(body.Causes, cause{v.Field, v.Reason})
	}
	if err := WriteJSON(w, e.Status, body); err != nil {
		s.cfg.Log.Debug("write answer", "path", r.URL.Path, "error", err)
	}
}

// WriteJSON answers with v as JSON, indented by one space as Kuma does.
func WriteJSON(w http.ResponseWriter, status int, v any) error {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, err = w.Write(b)
	return err
}

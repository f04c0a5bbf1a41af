package api

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/kuma-dp/kuma-dp/internal/yamljson"
	"github.com/kuma-dp/kuma-dp/resource"
)

// maxQuery bounds the query in bytes. It is far above what all filters together need.
const maxQuery = 8 << 10

// body reads the body of a request, which is JSON that every reader reads in the same way. What names the thing in errors,
// as in "invalid Mesh object".
func (s *Server) body(r *http.Request, what string) ([]byte, error) {
	if given := r.Header.Get("Content-Type"); given != "" {
		// Nothing is taken for JSON: many clients say nothing.
		media, _, err := mime.ParseMediaType(given)
		if err != nil || media != "application/json" && (!strings.HasPrefix(media, "application/") || !strings.HasSuffix(media, "+json")) {
			return nil, &Error{
				Status: http.StatusUnsupportedMediaType, Title: "Unsupported Media Type", Detail: "the body must be of type application/json",
			}
		}
	}
	body, err := io.ReadAll(r.Body)
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return nil, &Error{
			Status: http.StatusRequestEntityTooLarge, Title: badRequest,
			Detail: fmt.Sprintf("body is larger than %d bytes", s.cfg.MaxBody),
		}
	}
	if err == nil {
		err = yamljson.CheckJSON(body, resource.MaxDepth)
	}
	if err != nil {
		return nil, badBody(what, err)
	}
	return body, nil
}

func badBody(what string, err error) error {
	return &Error{Status: http.StatusBadRequest, Title: badRequest, Detail: fmt.Sprintf("invalid %s object: %q", what, err.Error())}
}

const (
	originField = `labels["` + resource.LabelOrigin + `"]`
	notByHand   = "is given by control planes only"
)

// forgedLabels finds labels that a client sets to speak for somebody else: another origin than this one, a namespace or a
// role that only Kubernetes gives (demands §3.3, assertion 40). 2.9 takes them, so that they are refused in hardened mode
// only. What is stored already may be sent back.
func forgedLabels(old, next *resource.Resource, zone resource.ZoneInfo) []resource.Violation {
	var out []resource.Violation
	own := resource.OriginZone
	if zone.Global {
		own = resource.OriginGlobal
	}
	for _, key := range []string{resource.LabelOrigin, resource.LabelNamespace, resource.LabelPolicyRole} {
		value, given := next.Labels[key]
		if !given || key == resource.LabelOrigin && value == own || old != nil && old.Labels[key] == value {
			continue
		}
		out = append(out, resource.Violation{Field: `labels["` + key + `"]`, Reason: notByHand})
	}
	if old == nil {
		return out
	}
	if was := old.Labels[resource.LabelOrigin]; was != "" && was != own {
		out = append(out, resource.Violation{Field: originField, Reason: "the resource comes from elsewhere: change it there"})
	}
	return out
}

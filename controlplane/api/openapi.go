package api

import (
	"net/http"
	"slices"
	"strings"

	"github.com/kuma-dp/kuma-dp/resource"
)

// Doc describes an endpoint in the OpenAPI document at /_openapi. The zero value says nothing of its bodies.
type Doc struct {
	Summary string
	// Tag groups endpoints; the kind's name for those of a kind.
	Tag string
	// Query are the names of parameters of the query. What is behind a colon tells parameters of one name apart: "format:admin".
	Query []string
	// Request and Response are examples of the Go types of the bodies, AnyOf several; nil when there is none.
	Request, Response any
	// Text means that the answer is plain text.
	Text bool
	// Created means that the answer may be 201 too, and that its body may be empty.
	Created bool
}

// AnyOf are examples of the Go types that a body may have.
type AnyOf []any

// endpoint is one route with its description.
type endpoint struct {
	method, path string
	doc          Doc
}

// openAPI serves the document, OpenAPI 3.1, made from the registered routes and the types behind them.
func (s *Server) openAPI(w http.ResponseWriter, _ *http.Request) error {
	return WriteJSON(w, http.StatusOK, s.document())
}

func (s *Server) document() schema {
	t := newTypes()
	for _, d := range s.visible() {
		t.addKind(d)
	}
	t.components["Error"] = t.of(errorBody{})
	paths := map[string]schema{}
	for _, e := range s.endpoints {
		if paths[e.path] == nil {
			paths[e.path] = schema{}
		}
		paths[e.path][strings.ToLower(e.method)] = t.operation(e)
	}
	return schema{
		"openapi": "3.1.0",
		"info":    schema{"title": "Control plane", "version": s.cfg.Index.Version},
		"paths":   paths,
		"components": schema{
			"schemas":         t.components,
			"securitySchemes": schema{"token": schema{"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
		},
		// A token is not needed everywhere, and not on the control plane's own host.
		"security": []schema{{"token": []string{}}, {}},
	}
}

func (t *types) operation(e endpoint) schema {
	params := []schema{}
	for segment := range strings.SplitSeq(e.path, "/") {
		if name, ok := strings.CutPrefix(segment, "{"); ok {
			params = append(params, schema{
				"name": strings.TrimSuffix(name, "}"), "in": "path", "required": true, "schema": schema{"type": "string"},
			})
		}
	}
	for _, key := range e.doc.Query {
		name, _, _ := strings.Cut(key, ":")
		params = append(params, schema{"name": name, "in": "query", "schema": queryTypes[key]})
	}
	ok := schema{"description": "Done"}
	switch {
	case e.doc.Text:
		ok["content"] = schema{"text/plain": schema{"schema": schema{"type": "string"}}}
	case e.doc.Response != nil:
		ok["content"] = content(t.of(e.doc.Response))
	}
	responses := schema{"200": ok, "default": schema{"description": "It was not done", "content": content(schema{"$ref": componentPrefix + "Error"})}}
	if e.doc.Created {
		responses["201"] = ok
	}
	op := schema{"operationId": operationID(e), "summary": e.doc.Summary, "parameters": params, "responses": responses}
	if e.doc.Tag != "" {
		op["tags"] = []string{e.doc.Tag}
	}
	if e.doc.Request != nil {
		op["requestBody"] = schema{"required": true, "content": content(t.of(e.doc.Request))}
	}
	return op
}

// queryTypes are the schemas of parameters; any value for one that is not listed.
var queryTypes = map[string]schema{
	"size":    {"type": "integer", "minimum": 1, "maximum": maxPage, "default": defaultPage},
	"offset":  {"type": "string"},
	"name":    {"type": "string"},
	"tag":     {"type": "array", "items": schema{"type": "string"}},
	"gateway": {"type": "string", "enum": []string{"true", "false", "builtin", "delegated"}},
	"format":  {"type": "string", "enum": []string{"k8s", "kubernetes", "universal"}},

	"format:admin": {"type": "string", "enum": []string{"text", "json"}, "default": "text"},
	"shadow":       {"type": "boolean", "default": false},
	"include":      {"type": "string", "enum": []string{"diff"}},
	"service":      {"type": "string", "description": "the value of the tag kuma.io/service"},
	"quiet":        {"type": "string", "default": "1h", "description": "how long nobody may have come without an identity, as 30m"},
	"requireReady": {"type": "string", "description": "refuse to make an inbound strict that somebody came to without an identity in this time, as 30m, or true for an hour"},
	"include_eds":  {"type": "boolean", "default": false},
}

func content(s schema) schema { return schema{"application/json": schema{"schema": s}} }

// operationID is unique, for a pair of method and path is.
func operationID(e endpoint) string {
	var b strings.Builder
	b.WriteString(strings.ToLower(e.method))
	for part := range strings.FieldsFuncSeq(e.path, func(c rune) bool { return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_') }) {
		b.WriteString("-" + part)
	}
	if strings.Contains(e.path, "-resources") {
		b.WriteString("-alias") // differs from "_resources" in its dash only
	}
	return b.String()
}

// ref is the schema of a resource.
func ref(k resource.Kind) schema { return schema{"$ref": componentPrefix + string(k)} }

// anyFormOf is a resource in the form that ?format= asks for.
func anyFormOf(k resource.Kind) schema {
	return schema{"anyOf": []schema{ref(k), {"$ref": componentPrefix + kubernetesForm}}}
}

func listOf(k resource.Kind) schema {
	return schema{
		"type": "object",
		"properties": schema{
			"total": schema{"type": "integer"},
			"items": schema{"type": "array", "items": ref(k)},
			"next":  schema{"type": []string{"string", "null"}},
		},
		"required": []string{"items", "next", "total"},
	}
}

// describe notes a route for the document.
func (s *Server) describe(pattern string, doc Doc) {
	method, path, _ := strings.Cut(pattern, " ")
	e := endpoint{method, strings.TrimSuffix(path, "{$}"), doc}
	if !slices.ContainsFunc(s.endpoints, func(o endpoint) bool { return o.method == e.method && o.path == e.path }) {
		s.endpoints = append(s.endpoints, e)
	}
}

package conformance

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

var casesDir = flag.String("cases", "testdata/cases", "directory of captured questions and answers")

// question is one query of a case.
type question struct {
	Method   string `json:"method"`
	Path     string `json:"path"`
	Status   int    `json:"status"`
	Expected string `json:"expected"`
	// Body is sent as it is; the captured cases only ask.
	Body json.RawMessage `json:"body"`
}

type testCase struct {
	Name      string     `json:"name"`
	Input     string     `json:"input"`
	Questions []question `json:"queries"`
}

func readJSON(t *testing.T, file string, into any) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// TestCases applies every case to a control plane of its own and asks its questions.
func TestCases(t *testing.T) {
	runCases(t, *casesDir)
}

// TestQuestions does the same with answers that follow from the contract and were not captured.
func TestQuestions(t *testing.T) {
	runCases(t, "testdata/questions")
	runValidation(t, "testdata/questions/validation.json")
}

func runCases(t *testing.T, root string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "*", "case.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in %s: %v", root, err)
	}
	for _, file := range files {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			var c testCase
			readJSON(t, file, &c)
			input, err := os.ReadFile(filepath.Join(dir, c.Input))
			if err != nil {
				t.Fatal(err)
			}
			p := start(t)
			p.apply(t, documents(t, input)...)
			p.settle(t, func() any {
				var out []any
				for _, q := range c.Questions {
					if q.Method == http.MethodGet {
						out = append(out, p.ask(t, q.Method, q.Path, nil))
					}
				}
				return out
			})
			for _, q := range c.Questions {
				t.Run(q.Method+" "+q.Path, func(t *testing.T) { p.check(t, dir, q) })
			}
		})
	}
}

// check compares the answer to one question. An answer that differs is asked for again for a while: the parts of the
// control plane follow the store, each in its own time.
func (p *plane) check(t *testing.T, dir string, q question) {
	t.Helper()
	var want any
	if q.Expected != "" {
		readJSON(t, filepath.Join(dir, q.Expected), &want)
	}
	want = normal(want, nil)
	var diffs []difference
	for deadline := time.Now().Add(patience); ; time.Sleep(poll) {
		a := p.ask(t, q.Method, q.Path, q.Body)
		diffs = nil
		if a.status != q.Status {
			diffs = append(diffs, difference{"(status)", q.Status, a.status})
		}
		diffs = append(diffs, compare("", want, normal(a.value, p.addresses(t)))...)
		if len(diffs) == 0 || q.Method != http.MethodGet || time.Now().After(deadline) {
			break
		}
	}
	if len(diffs) > 0 {
		t.Errorf("%s differs in %d places:%s", filepath.Base(dir), len(diffs), report(diffs))
	}
}

// verdict is what one object was answered when it was written into mesh default.
type verdict struct {
	Type     string          `json:"type"`
	Name     string          `json:"name"`
	Labels   map[string]any  `json:"labels"`
	Spec     map[string]any  `json:"spec"`
	Status   int             `json:"status"`
	Faults   []any           `json:"invalid_parameters"`
	Warnings []any           `json:"warnings"`
	Stored   *map[string]any `json:"stored_spec"`
}

// TestValidation writes the objects of validation.json and compares the verdicts.
func TestValidation(t *testing.T) {
	runValidation(t, filepath.Join(*casesDir, "validation.json"))
}

func runValidation(t *testing.T, file string) {
	t.Helper()
	if _, err := os.Stat(file); os.IsNotExist(err) && *casesDir != flag.Lookup("cases").DefValue {
		t.Logf("%s has no validation.json", *casesDir)
		return
	}
	var verdicts []verdict
	readJSON(t, file, &verdicts)
	p := start(t)
	p.apply(t, document{"type": "Mesh", "name": "default"})
	paths := p.paths(t)
	for i, v := range verdicts {
		t.Run(fmt.Sprintf("%02d-%s", i, v.Type), func(t *testing.T) {
			name := fmt.Sprint("v", i)
			if v.Name != "" {
				name = v.Name
			}
			d := document{"type": v.Type, "name": name, "spec": v.Spec}
			if v.Type != "HostnameGenerator" {
				d["mesh"] = "default"
			}
			if v.Labels != nil {
				d["labels"] = v.Labels
			}
			a := p.put(t, paths, d)
			var diffs []difference
			if a.status != v.Status {
				diffs = append(diffs, difference{"(status)", v.Status, a.status})
			}
			diffs = append(diffs, compare(".invalid_parameters", asAny(v.Faults), asAny(list(a.value, "invalid_parameters")))...)
			diffs = append(diffs, compare(".warnings", asAny(v.Warnings), asAny(slices.DeleteFunc(list(a.value, "warnings"), beyond)))...)
			if v.Stored != nil {
				path := "/meshes/default" + paths[v.Type] + "/" + name
				diffs = append(diffs, compare(".stored_spec", any(*v.Stored), p.ask(t, http.MethodGet, path, nil).value.(map[string]any)["spec"])...)
			}
			if len(diffs) > 0 {
				t.Errorf("%s %s:%s", v.Type, show(v.Spec), report(diffs))
			}
		})
	}
}

func asAny(l []any) any {
	if l == nil {
		return []any{}
	}
	return l
}

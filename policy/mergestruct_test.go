package policy_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/resource"
)

// fill draws a value for everything in v, or leaves it out.
func fill(rt *rapid.T, v reflect.Value, depth int) {
	if depth > 7 || v.Kind() != reflect.Struct && rapid.IntRange(0, 2).Draw(rt, "absent") == 0 {
		return
	}
	switch x := v.Addr().Interface().(type) {
	case *resource.Duration:
		x.Duration = rapid.SampledFrom([]time.Duration{0, time.Second, time.Hour}).Draw(rt, "duration")
		return
	case *resource.IntOrString:
		if json.Unmarshal(rapid.SampledFrom([][]byte{[]byte(`1`), []byte(`"1.5"`), []byte(`"x"`)}).Draw(rt, "intOrString"), x) != nil {
			panic("cannot decode")
		}
		return
	case *json.RawMessage:
		*x = rapid.SampledFrom([]json.RawMessage{[]byte(`{"a":1}`), []byte(`{"b":[1]}`), []byte(`"x"`)}).Draw(rt, "raw")
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(rt, v.Elem(), depth+1)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(rt, v.Field(i), depth+1)
			}
		}
	case reflect.Slice:
		n := rapid.IntRange(0, 2).Draw(rt, "length")
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(rt, v.Index(i), depth+1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range rapid.IntRange(0, 2).Draw(rt, "length") {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(rt, key, depth+1)
			fill(rt, value, depth+1)
			v.SetMapIndex(key, value)
		}
	case reflect.String:
		v.SetString(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "text"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(rt, "bool"))
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(rapid.Int64Range(0, 3).Draw(rt, "int"))
	case reflect.Uint32, reflect.Uint64, reflect.Uint:
		v.SetUint(rapid.Uint64Range(0, 3).Draw(rt, "uint"))
	case reflect.Float64:
		v.SetFloat(rapid.SampledFrom([]float64{0, 1.5}).Draw(rt, "float"))
	}
}

// Merging the structs of a kind says the same as merging their JSON (contract policies.md §4.4).
func TestMergeIsThatOfJSON(t *testing.T) {
	for _, kind := range all.Kinds() {
		t.Run(string(kind.Descriptor.Kind), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				confs := make([]any, rapid.IntRange(2, 4).Draw(rt, "confs"))
				for i := range confs {
					drawn := kind.NewConf()
					fill(rt, reflect.ValueOf(drawn).Elem(), 0)
					// As it comes from a client.
					body, err := json.Marshal(drawn)
					if err != nil {
						rt.Skip(err)
					}
					confs[i] = kind.NewConf()
					if err := json.Unmarshal(body, confs[i]); err != nil {
						rt.Skip(err)
					}
				}
				before := fmt.Sprint(wire(rt, confs))
				want, err := policy.MergeJSON(kind, confs)
				if err != nil {
					rt.Skip(err)
				}
				got, err := policy.Merge(kind, confs)
				if err != nil {
					rt.Fatal(err)
				}
				if diff := gocmp.Diff(wire(rt, want), wire(rt, got)); diff != "" {
					rt.Fatalf("confs %s (-of JSON +of structs):\n%s", before, diff)
				}
				if after := fmt.Sprint(wire(rt, confs)); before != after {
					rt.Fatalf("merging changed its input:\n%s\n%s", before, after)
				}
			})
		})
	}
}

func wire(rt *rapid.T, confs []any) []string {
	out := make([]string, len(confs))
	for i, c := range confs {
		body, err := json.Marshal(c)
		if err != nil {
			rt.Fatal(err)
		}
		out[i] = string(body)
	}
	return out
}

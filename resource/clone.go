package resource

import (
	"maps"
	"reflect"
)

// Clone returns a deep copy, which its caller may change.
func (r *Resource) Clone() *Resource {
	c := *r
	c.Labels = maps.Clone(r.Labels)
	if r.Spec != nil {
		c.Spec, _ = deepCopy(reflect.ValueOf(r.Spec)).Interface().(Spec)
	}
	if r.Status != nil {
		c.Status = deepCopy(reflect.ValueOf(r.Status)).Interface()
	}
	return &c
}

// deepCopy copies what specs are made of. Unexported fields are copied as they are: no spec has one that points.
func deepCopy(v reflect.Value) reflect.Value {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return v
		}
		out := reflect.New(v.Type().Elem())
		out.Elem().Set(deepCopy(v.Elem()))
		return out
	case reflect.Interface:
		if v.IsNil() {
			return v
		}
		out := reflect.New(v.Type()).Elem()
		out.Set(deepCopy(v.Elem()))
		return out
	case reflect.Slice:
		if v.IsNil() {
			return v
		}
		out := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		for i := range v.Len() {
			out.Index(i).Set(deepCopy(v.Index(i)))
		}
		return out
	case reflect.Map:
		if v.IsNil() {
			return v
		}
		out := reflect.MakeMapWithSize(v.Type(), v.Len())
		for it := v.MapRange(); it.Next(); {
			out.SetMapIndex(it.Key(), deepCopy(it.Value()))
		}
		return out
	case reflect.Struct:
		out := reflect.New(v.Type()).Elem()
		out.Set(v)
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				out.Field(i).Set(deepCopy(v.Field(i)))
			}
		}
		return out
	default:
		return v
	}
}

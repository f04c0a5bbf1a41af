package inspect

import (
	"cmp"
	"encoding/json"
	"slices"
	"unicode/utf8"
)

// member is a field of a JSON object, with its value as it is written.
type member struct {
	name  string
	value json.RawMessage
}

// members takes a JSON object apart, sorted by name, of several of a name the last; none of what is no object. The text must
// be valid.
func members(text []byte) []member {
	var out []member
	if len(text) == 0 || text[0] != '{' {
		return nil
	}
	for i := next(text, 1); text[i] != '}'; {
		end := skip(text, i)
		one := member{name: unquote(text[i:end])}
		i = next(text, next(text, end)+1) // over the colon
		end = skip(text, i)
		one.value = text[i:end]
		out = append(out, one)
		if i = next(text, end); text[i] == ',' {
			i = next(text, i+1)
		}
	}
	slices.SortStableFunc(out, func(a, b member) int { return cmp.Compare(a.name, b.name) })
	last := out[:0]
	for i, m := range out {
		if i+1 == len(out) || out[i+1].name != m.name {
			last = append(last, m)
		}
	}
	return last
}

// elements takes a JSON array apart. The text must be valid.
func elements(text []byte) []json.RawMessage {
	out := []json.RawMessage{}
	for i := next(text, 1); text[i] != ']'; {
		end := skip(text, i)
		out = append(out, text[i:end])
		if i = next(text, end); text[i] == ',' {
			i = next(text, i+1)
		}
	}
	return out
}

func unquote(text []byte) string {
	if !slices.Contains(text, '\\') && utf8.Valid(text) {
		return string(text[1 : len(text)-1])
	}
	var out string
	_ = json.Unmarshal(text, &out) // it is valid
	return out
}

// next returns the place of the next byte that is no white space.
func next(text []byte, i int) int {
	for text[i] == ' ' || text[i] == '\n' || text[i] == '\t' || text[i] == '\r' {
		i++
	}
	return i
}

// skip returns the end of the value that begins at i.
func skip(text []byte, i int) int {
	depth := 0
	for {
		switch text[i] {
		case '"':
			i = skipString(text, i)
		case '{', '[':
			depth++
			i++
		case '}', ']':
			depth--
			i++
		case ',', ':', ' ', '\n', '\t', '\r':
			i++ // within an object or an array
			continue
		default: // a number or a word
			for i < len(text) && text[i] != ',' && text[i] != '}' && text[i] != ']' && text[i] > ' ' {
				i++
			}
		}
		if depth == 0 {
			return i
		}
	}
}

func skipString(text []byte, i int) int {
	for i++; text[i] != '"'; i++ {
		if text[i] == '\\' {
			i++
		}
	}
	return i + 1
}

package hostname

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/template"
)

// functions are those of text/template that make text, each with a bound for what it makes. The others compare, choose, or
// take a part of a text, and stay as they are.
func functions() template.FuncMap {
	return template.FuncMap{
		"print":    bounded(fmt.Sprint),
		"println":  bounded(fmt.Sprintln),
		"html":     bounded(template.HTMLEscaper),
		"js":       bounded(template.JSEscaper),
		"urlquery": bounded(template.URLQueryEscaper),
		"printf": func(format string, args ...any) (string, error) {
			if err := checkFormat(format, args); err != nil {
				return "", err
			}
			return short(fmt.Sprintf(format, args...))
		},
	}
}

// bounded refuses arguments and results that are too long.
func bounded(f func(args ...any) string) func(args ...any) (string, error) {
	return func(args ...any) (string, error) {
		total := len(args)
		for _, a := range args {
			total += size(a)
		}
		if total > maxText {
			return "", ErrLong
		}
		return short(f(args...))
	}
}

func short(s string) (string, error) {
	if len(s) > maxText {
		return "", ErrLong
	}
	return s, nil
}

// size is about how long a value is when it is printed.
func size(v any) int {
	switch v := v.(type) {
	case string:
		return len(v)
	case meshedName:
		return len(v.Name) + len(v.DisplayName) + len(v.Namespace) + len(v.Mesh) + len(v.Zone)
	default:
		return 24 // a number, or true
	}
}

var errStar = errors.New("a width that is an argument is not supported")

// checkFormat bounds what a format can make before it is made: the sum of its widths, and of what each verb shows.
func checkFormat(format string, args []any) error {
	longest := 0
	for _, a := range args {
		longest = max(longest, size(a))
	}
	total := len(format)
	for total <= maxText {
		_, rest, found := strings.Cut(format, "%")
		if !found {
			return nil
		}
		end := strings.IndexFunc(rest, func(r rune) bool { return !strings.ContainsRune("+-# .[]*0123456789", r) })
		if end < 0 {
			end = len(rest)
		}
		spec := rest[:end]
		if strings.Contains(spec, "*") {
			return errStar
		}
		for number := range strings.FieldsFuncSeq(spec, func(r rune) bool { return r < '0' || r > '9' }) {
			n, err := strconv.ParseUint(number, 10, 16)
			if err != nil {
				return ErrLong
			}
			total += int(n)
		}
		total += longest
		format = strings.TrimPrefix(rest[end:], "%")
	}
	return ErrLong
}

package main

import (
	"encoding/csv"
	"errors"
	"strings"
)

// pair is a key=value of a flag.
type pair struct{ key, value string }

// pairs reads the values of a flag that takes key=value, several of them separated by commas too. Like 2.9, a value with
// one "=" is one pair whatever its commas. Errors do not repeat values, which may be secret.
func pairs(given []string) ([]pair, error) {
	var out []pair
	for _, text := range given {
		parts := []string{strings.Trim(text, `"`)}
		if strings.Count(text, "=") != 1 {
			var err error
			if parts, err = csv.NewReader(strings.NewReader(text)).Read(); err != nil {
				return nil, errors.New("wants key=value, or several of them separated by commas")
			}
		}
		for _, part := range parts {
			key, value, ok := strings.Cut(part, "=")
			if !ok || key == "" {
				return nil, errors.New("wants key=value, or several of them separated by commas")
			}
			out = append(out, pair{key, value})
		}
	}
	return out, nil
}

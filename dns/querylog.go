package dns

import "fmt"

// QueryLog says which queries are written to the log.
type QueryLog uint8

// The query log is off unless asked for: names that a workload asks for are nobody else's business.
const (
	QueryLogOff    QueryLog = iota
	QueryLogSample          // some each second, and how many were left out
	QueryLogAll             // every one, as long as the log keeps up
)

var queryLogNames = []string{"off", "sample", "all"}

func (l QueryLog) String() string {
	if int(l) < len(queryLogNames) {
		return queryLogNames[l]
	}
	return fmt.Sprintf("QueryLog(%d)", uint8(l))
}

// MarshalText writes off, sample or all.
func (l QueryLog) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads off, sample or all.
func (l *QueryLog) UnmarshalText(text []byte) error {
	for i, name := range queryLogNames {
		if name == string(text) {
			*l = QueryLog(i)
			return nil
		}
	}
	return fmt.Errorf("query log %.32q: need off, sample or all", text)
}

package accesslog

import "testing"

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"address":"127.0.0.1:6666","message":"hello\n"}` + "\n"))
	f.Add([]byte("127.0.0.1:6666;text\n"))
	f.Add([]byte(`{"address":"a:1","message":[1, 2]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		address, _, ok := parse(line)
		if ok && !validAddress(address) {
			t.Errorf("accepted address %q", address)
		}
	})
}

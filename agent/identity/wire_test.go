package identity

import "testing"

func FuzzDecodeResponse(f *testing.F) {
	f.Add(field(field(nil, 1, []byte("leaf")), 1, []byte("root")))
	f.Add([]byte{0x0a, 0xff})
	f.Add([]byte{0x10, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		var a certificateResponse
		if err := a.decode(b); err != nil {
			return
		}
		size := 0
		for _, c := range a.chain {
			size += len(c)
		}
		if size > len(b) {
			t.Errorf("%d bytes decoded from %d", size, len(b))
		}
	})
}

package effect

import (
	"math"

	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/resource"
)

// Number is Envoy's form of a number that may be absent.
func Number(n *uint32) *wrapperspb.UInt32Value {
	if n == nil {
		return nil
	}
	return wrapperspb.UInt32(*n)
}

// Span is Envoy's form of a duration that may be absent.
func Span(d *resource.Duration) *durationpb.Duration {
	if d == nil {
		return nil
	}
	return durationpb.New(d.Duration)
}

// Percent is Envoy's form of a share between 0 and 100, with the smallest denominator that Kuma finds for it. Like Kuma it
// compares the products as they are stored, so that 4.35, of which a hundred are a little less than 435, is told in
// millionths.
func Percent(n float64) *typev3.FractionalPercent {
	const hundredths, tenThousandths = 100, 10_000
	switch {
	case n == math.Trunc(n):
		return &typev3.FractionalPercent{Numerator: uint32(n)}
	case hundredths*n == math.Trunc(hundredths*n):
		return &typev3.FractionalPercent{Numerator: uint32(hundredths * n), Denominator: typev3.FractionalPercent_TEN_THOUSAND}
	default:
		return &typev3.FractionalPercent{Numerator: uint32(math.Round(tenThousandths * n)), Denominator: typev3.FractionalPercent_MILLION}
	}
}

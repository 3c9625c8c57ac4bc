package main

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestHistogramBucketsAreInOrderAndTight(t *testing.T) {
	last := -1
	for _, v := range []int64{0, 1, 63, 64, 65, 127, 128, 129, 1000, 4095, 4096, 1e6, 1e9, 1<<maxBits - 1} {
		i := bucketOf(v)
		if h := highest(i); h < v || h > v+v>>subBits {
			t.Errorf("bucket %d of %d ends at %d", i, v, h)
		}
		if i < last {
			t.Errorf("%d in bucket %d, less in %d", v, i, last)
		}
		last = i
	}
	for i := range len(new(histogram).buckets) {
		if bucketOf(highest(i)) != i || i > 0 && bucketOf(highest(i-1)+1) != i {
			t.Fatalf("bucket %d does not hold its own bounds", i)
		}
	}
}

func TestHistogramQuantilesAreCloseToExactOnes(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var h histogram
	var all []int64
	for range 20000 {
		v := int64(1) << random.IntN(34)
		v += random.Int64N(v)
		all = append(all, v)
		h.record(v)
	}
	slices.Sort(all)
	for _, q := range []float64{0, 0.01, 0.5, 0.9, 0.99, 0.999, 1} {
		exact := all[max(0, min(len(all)-1, int(q*float64(len(all))+0.999999)-1))]
		if got := h.quantile(q); got < exact || got > exact+exact>>subBits {
			t.Errorf("quantile %v is %d, exactly %d", q, got, exact)
		}
	}
	if h.max != all[len(all)-1] || h.quantile(1) != h.max {
		t.Errorf("max %d, quantile(1) %d, exactly %d", h.max, h.quantile(1), all[len(all)-1])
	}
}

func TestHistogramBeyondItsRange(t *testing.T) {
	var h histogram
	if h.quantile(0.5) != 0 {
		t.Error("an empty one has a median")
	}
	h.record(-5)
	h.record(1 << 50)
	if h.quantile(0.5) != 0 || h.max != 1<<50 || h.n != 2 {
		t.Errorf("median %d, max %d, n %d", h.quantile(0.5), h.max, h.n)
	}
}

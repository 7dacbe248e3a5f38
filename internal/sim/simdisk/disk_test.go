package simdisk

import (
	"math/rand/v2"
	"testing"

	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/store/storetest"
)

func TestSuite(t *testing.T) {
	storetest.Suite(t, func(testing.TB) store.Store { return New(rand.New(rand.NewPCG(1, 2))).Open() })
}

func TestSuiteReopened(t *testing.T) {
	storetest.SuiteReopened(t, func(testing.TB) func() (store.Store, error) {
		d := New(nil)
		return func() (store.Store, error) { return d.Open(), nil }
	})
}

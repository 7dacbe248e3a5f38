package esplora_test

import (
	"errors"
	"testing"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/esplora"
	"github.com/spillway/spillway/script"
)

func TestFeeRates(t *testing.T) {
	estimates := answer{body: `{"1":87.882,"2":87.882,"6":20.0001,"144":0.3,"504":0.1,"1008":0.05}`}
	for _, c := range []struct {
		blocks   int
		min, max script.FeeRate
		want     script.FeeRate
	}{
		{-1, 0, 0, 87_882}, {1, 0, 0, 87_882}, {5, 0, 0, 87_882}, {6, 0, 0, 20_001}, {143, 0, 0, 20_001},
		{144, 0, 0, 1_000}, {1 << 40, 0, 0, 1_000}, {1 << 40, 2_500, 0, 2_500}, {1, 0, 50_000, 50_000}, {6, 30_000, 40_000, 30_000},
	} {
		client, _ := against(t, map[string]answer{"GET /api/fee-estimates": estimates}, func(cfg *esplora.Config) {
			cfg.MinFeeRate, cfg.MaxFeeRate = c.min, c.max
		})
		if got, err := client.FeeRate(t.Context(), c.blocks); err != nil || got != c.want {
			t.Errorf("%+v: %d, %v", c, got, err)
		}
	}
	for body, want := range map[string]script.FeeRate{
		`{"1":1e300}`: chain.MaxFeeRate, `{"1":0}`: chain.MinFeeRate, `{"5":7}`: 7_000, `{}`: 0,
	} {
		client, _ := against(t, map[string]answer{"GET /api/fee-estimates": {body: body}})
		got, err := client.FeeRate(t.Context(), 2)
		if got != want || (err != nil) != (want == 0) || err != nil && !errors.Is(err, chain.ErrUnavailable) {
			t.Errorf("%s: %d, %v", body, got, err)
		}
	}
}

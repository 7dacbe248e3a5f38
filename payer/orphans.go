package payer

import (
	"context"

	"github.com/spillway/spillway/channel"
)

// Fundings reports, by txid, which transactions fund a channel of this folder,
// for wallet.ReleaseOrphans. One that was given up before anything of it left is
// none of them: its coins are to be free, also where freeing them failed then.
func (p *Payer) Fundings(ctx context.Context) (known func(txid string) bool, err error) {
	records, err := p.Records(ctx)
	if err != nil {
		return nil, err
	}
	ids := make(map[string]bool, len(records))
	for _, r := range records {
		if r.Phase != channel.Abandoned || r.FundingSent {
			ids[r.Terms.Outpoint.Hash.String()] = true
		}
	}
	return func(txid string) bool { return ids[txid] }, nil
}

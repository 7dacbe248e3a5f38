package channel

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// TestSmallUpdatesBurnNoFee: whoever raises what it pays by a satoshi at a time
// while the payee settles cannot make it give what it earned to miners: what the
// payee gets from its newest settlement falls only with the blocks that pass.
func TestSmallUpdatesBurnNoFee(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := record(paid(20_000), func(r *PayeeRecord) { r.Phase = Settling })
		ch, err := r.Terms.Script()
		if err != nil {
			t.Fatal(err)
		}
		v := at(lastBlock + 1)
		for step := range rapid.IntRange(1, 200).Draw(t, "steps") {
			more := rapid.SampledFrom([]uint64{0, 1, 1, 100, 300, 1000}).Draw(t, "sat")
			if r.Paid+more > r.Terms.Capacity-r.Terms.Dust() {
				break
			}
			r.Paid += more
			before := r.Settlement
			next, actions := r.Due(ch, payout, v, policy())
			if r = next; kinds(actions) != "make-settlement" {
				continue
			}
			r.Settlement = saved(actions[0], r.Paid, v.Tip)
			size := ch.SettlementVSize(int64(r.Terms.Capacity-r.Paid), payout)
			r.Settlement.Fee = actions[0].Rate.Fee(size)
			r.Settlement.Txid = fmt.Sprint("settlement", step)
			v.Spend = &SpendView{Txid: r.Settlement.Txid, Fee: r.Settlement.Fee, VSize: size}
			if before != nil && int64(r.Paid)-r.Settlement.Fee < int64(before.Amount)-before.Fee {
				t.Fatalf("%d sat at a fee of %d sat took the place of %d sat at %d sat",
					r.Paid, r.Settlement.Fee, before.Amount, before.Fee)
			}
		}
	})
}

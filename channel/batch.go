package channel

import (
	"cmp"
	"slices"

	"github.com/spillway/spillway/script"
)

// Limits of a batch in vB: that of version 3 (BIP431), and what a node takes of a
// transaction over an unconfirmed one of version 3. docs/protocol.md, section 4.2.
const (
	maxBatch     = 10_000
	maxUnsettled = 1_000 // over a funding that is in no block
)

// Seat is a channel that is to be settled, as the chain stands.
type Seat struct {
	Record PayeeRecord
	Script *script.Channel
	View   View
	// Rate is that of the MakeSettlement which Due asks for; 0: it asks for none.
	Rate script.FeeRate
	// Coins: at that rate it takes a coin of the payee's own, unless others help.
	Coins bool
}

// Batch is a settlement transaction that is to be made, or to be sent again.
type Batch struct {
	Seats []int          // whose channels it settles
	Rate  script.FeeRate // at which it is made; 0: what is saved is sent again
}

// Together decides which channels are settled in one transaction, and what becomes of
// the transactions that hold several already. Whatever Due wants of a seat, and can wait
// no longer, is in one of the batches; most are of one seat. It is level triggered, like
// Due. The rules, docs/protocol.md, section 10:
//
//   - a first settlement is made together with others of one version and one lock, in
//     10,000 vB, or 1,000 while a funding is in no block; with one P2SH rest at most;
//   - nobody whose payer could evict all of it is among them: see evictable;
//   - nobody pays more for it than alone, and nobody more than it has at stake;
//   - in the mempool it is replaced as a whole, without those who may evict it by now;
//   - not there any more, it is sent again while nobody's output is spent elsewhere;
//     else each of the others is settled alone from then on, at once.
func Together(seats []Seat, payout []byte) []Batch {
	var plan []Batch
	var fresh []int
	groups := map[string][]int{}
	var order []string
	for i, s := range seats {
		switch last := s.Record.Settlement; {
		case last != nil && len(last.Batch) > 1:
			if groups[last.Txid] == nil {
				order = append(order, last.Txid)
			}
			groups[last.Txid] = append(groups[last.Txid], i)
		case last == nil && s.View.Spend == nil && !s.evictable() && (s.Rate > 0 || s.poor(payout)):
			fresh = append(fresh, i)
		case s.Rate > 0:
			plan = append(plan, Batch{Seats: []int{i}, Rate: s.Rate})
		}
	}
	for _, txid := range order {
		plan = append(plan, regather(seats, groups[txid], payout)...)
	}
	return append(plan, gather(seats, fresh, payout)...)
}

// evictable reports whether the payer, or anybody but this payee, may by now spend the
// output with a transaction that takes the place of a batch: its refund at the expiry,
// a close that was signed (after a restore: that may have been signed), in duplex a
// state of its own. It is settled alone.
func (s Seat) evictable() bool {
	r := s.Record
	if r.Phase == Closing || r.Close != nil || r.Restored || r.Stopped != "" {
		return true
	}
	from := r.Terms.Expiry
	if r.Duplex != nil {
		from, _ = r.Terms.Lock(r.Duplex.Sent.Epoch)
	}
	return s.View.Tip >= from
}

// claim is a seat's part of a settlement, without keys.
func (s Seat) claim() script.Claim {
	c, err := s.Record.Claim(s.Script)
	if err != nil {
		return script.Claim{Channel: s.Script} // nothing is held: no seat that Due settles
	}
	return c
}

// alone is the size of a seat's own settlement, and the highest rate that its stake
// allows there.
func (s Seat) alone(payout []byte) (size int64, limit script.FeeRate) {
	size, err := script.BatchVSize([]script.Claim{s.claim()}, payout, 0)
	if err != nil {
		return 0, 0
	}
	return size, stakeRate(int64(s.Record.Claimed())-script.Dust(payout), size)
}

// poor reports whether a channel is due whose own settlement no node would relay, while
// its part in one of several may be worth it.
func (s Seat) poor(payout []byte) bool {
	r, v := s.Record, s.View
	_, most := s.alone(payout)
	return r.Phase == Settling && r.Duplex == nil && r.Paid > 0 && v.Spend == nil && v.Funding.Seen &&
		(v.Funding.Height > 0 || r.Terms.TxVersion == 2) && most < minStep
}

// means orders seats by what they can do for others: 0 pays for itself, 1 takes a coin, 2
// would not be settled alone.
func (s Seat) means() int {
	switch {
	case s.Rate == 0:
		return 2
	case s.Coins:
		return 1
	}
	return 0
}

// worth is the rate at which a seat is settled where nothing else is said: what Due asks
// for, or the going rate.
func (s Seat) worth() script.FeeRate {
	if s.Rate > 0 {
		return s.Rate
	}
	return max(s.View.Rate, minStep)
}

// gather makes batches of first settlements, dearest rate first.
func gather(seats []Seat, fresh []int, payout []byte) (plan []Batch) {
	slices.SortStableFunc(fresh, func(a, b int) int {
		return cmp.Or(cmp.Compare(seats[a].means(), seats[b].means()), cmp.Compare(seats[b].worth(), seats[a].worth()), cmp.Compare(seats[a].Record.Terms.ID(), seats[b].Record.Terms.ID()))
	})
	for len(fresh) > 0 {
		b := Batch{Seats: fresh[:1:1], Rate: seats[fresh[0]].worth()}
		var left []int
		size, _ := seats[fresh[0]].alone(payout)
		for _, i := range fresh[1:] {
			with, ok := joins(seats, b, size, i, payout)
			if !ok {
				left = append(left, i)
				continue
			}
			b.Seats, size = append(b.Seats, i), with
		}
		fresh = left
		if pays(seats, b, size, payout) {
			plan = append(plan, b)
			continue
		}
		for _, i := range b.Seats {
			if seats[i].Rate > 0 {
				plan = append(plan, Batch{Seats: []int{i}, Rate: seats[i].Rate})
			}
		}
	}
	return plan
}

// joins reports whether one more seat may be in a batch of this size (vB), and is no
// worse off there than alone.
func joins(seats []Seat, b Batch, size int64, i int, payout []byte) (with int64, ok bool) {
	first, s := seats[b.Seats[0]], seats[i]
	limit := int64(maxBatch)
	if first.View.Funding.Height == 0 || s.View.Funding.Height == 0 {
		limit = maxUnsettled
	}
	with, err := script.BatchVSize(append(claims(seats, b.Seats), s.claim()), payout, 0)
	if err != nil || with > limit || (first.View.Funding.Height == 0) != (s.View.Funding.Height == 0) {
		return 0, false
	}
	share := b.Rate.Fee(with - size)
	alone, most := s.alone(payout)
	if s.Rate == 0 || s.Coins { // alone it would not be settled at all, or with a coin
		return with, share < int64(s.Record.Claimed())
	}
	return with, b.Rate <= most && share <= s.Rate.Fee(alone)
}

// pays reports whether a batch is to be made: its one seat is due, or it leaves an
// output that is relayed.
func pays(seats []Seat, b Batch, size int64, payout []byte) bool {
	if len(b.Seats) == 1 {
		return seats[b.Seats[0]].Rate > 0
	}
	return stake(seats, b.Seats)-script.Dust(payout) >= b.Rate.Fee(size)
}

func claims(seats []Seat, of []int) []script.Claim {
	all := make([]script.Claim, len(of), len(of)+1)
	for i, at := range of {
		all[i] = seats[at].claim()
	}
	return all
}

// stake is what a batch's channels pay in all, in sat.
func stake(seats []Seat, of []int) (sat int64) {
	for _, i := range of {
		sat += int64(seats[i].Record.Claimed())
	}
	return sat
}

// regather decides what becomes of a settlement that was made of several channels.
func regather(seats []Seat, of []int, payout []byte) []Batch {
	waiting, missing := 0, 0
	for _, i := range of {
		switch spend := seats[i].View.Spend; {
		case spend == nil:
			missing++
		case spend.Height == 0 && seats[i].Record.knows(spend.Txid):
			waiting++
		}
	}
	switch {
	case waiting == len(of):
		return raise(seats, of, payout)
	case missing == len(of) && missing == len(seats[of[0]].Record.Settlement.Batch) && whole(seats, of):
		rate := wanted(seats, of)
		if rate > 0 {
			rate = max(rate, script.FeeRate(seats[of[0]].Record.Settlement.Rate))
		}
		return []Batch{{Seats: of, Rate: rate}}
	}
	var plan []Batch
	for _, i := range of {
		if rate := seats[i].afresh(payout); rate > 0 {
			plan = append(plan, Batch{Seats: []int{i}, Rate: rate})
		}
	}
	return plan
}

// whole reports whether nobody's payer can evict a batch by now.
func whole(seats []Seat, of []int) bool {
	return !slices.ContainsFunc(of, func(i int) bool { return seats[i].evictable() })
}

// knows reports whether a transaction is a settlement of this payee's.
func (r PayeeRecord) knows(txid string) bool {
	_, ok := r.made(txid)
	return ok
}

// wanted is the highest rate that one of the seats asks for; 0: none does.
func wanted(seats []Seat, of []int) (rate script.FeeRate) {
	for _, i := range of {
		rate = max(rate, seats[i].Rate)
	}
	return rate
}

// raise replaces a batch that waits in the mempool, where one of its channels has to be
// mined sooner, or where what was paid since is worth more than the replacement costs.
func raise(seats []Seat, of []int, payout []byte) []Batch {
	first := seats[of[0]]
	last, rate := first.Record.Settlement, wanted(seats, of)
	size, err := script.BatchVSize(claims(seats, of), payout, 0)
	if err != nil {
		return nil
	}
	var more int64
	for _, i := range of {
		more += int64(seats[i].Record.Claimed()) - int64(seats[i].Record.Settlement.Amount)
	}
	if more > minStep.Fee(size)+1 {
		rate = max(rate, script.FeeRate(last.Rate)+minStep)
	}
	if _, hidden := first.Record.budgeted(first.View); rate == 0 && hidden {
		if b, ok := replaces(seats, of, script.FeeRate(last.Rate), payout); ok && b.Rate > script.FeeRate(last.Rate) {
			return []Batch{b}
		}
	}
	if rate == 0 {
		if first.View.Spend.Txid != last.Txid { // the newest was not taken: once more
			return []Batch{{Seats: of}}
		}
		return nil
	}
	if c := first.View.Spend.carried(); c > first.View.Spend.rate() && c >= rate {
		return nil // a child of one of the payers pays for it
	}
	rate = max(rate, script.FeeRate(last.Rate))
	stay, leave := part(seats, of, rate, payout)
	if b, ok := replaces(seats, stay, rate, payout); ok && len(leave) > 0 {
		plan := []Batch{b}
		for _, i := range leave {
			if own := seats[i].afresh(payout); own > 0 {
				plan = append(plan, Batch{Seats: []int{i}, Rate: own})
			}
		}
		return plan
	}
	if b, ok := replaces(seats, of, rate, payout); ok {
		return []Batch{b}
	}
	if first.View.Spend.Txid != last.Txid { // nothing dearer can be made, and the newest does not wait
		return []Batch{{Seats: of}}
	}
	return nil // it pays what there is to pay
}

// part divides a batch's seats into those that stay together, and those that are better
// off alone: their payers may evict it by now, or their stake allows no such rate.
func part(seats []Seat, of []int, rate script.FeeRate, payout []byte) (stay, leave []int) {
	for _, i := range of {
		_, most := seats[i].alone(payout)
		if seats[i].evictable() || most > 0 && rate > most {
			leave = append(leave, i)
		} else {
			stay = append(stay, i)
		}
	}
	return stay, leave
}

// replaces is the batch of these seats that takes the place of what waits in the
// mempool; not where they cannot pay for it.
func replaces(seats []Seat, of []int, rate script.FeeRate, payout []byte) (Batch, bool) {
	if len(of) == 0 {
		return Batch{}, false
	}
	size, err := script.BatchVSize(claims(seats, of), payout, 0)
	if err != nil {
		return Batch{}, false
	}
	v, _ := seats[of[0]].Record.budgeted(seats[of[0]].View)
	rate = max(rate, v.outbid(size))
	return Batch{Seats: of, Rate: rate}, rate.Fee(size) <= stake(seats, of)-script.Dust(payout)
}

// afresh is the rate at which a channel is settled alone that was in a batch: what Due
// asks for, never less than before; 0 where its stake does not allow that, where what
// spends it is mined, or where what waits is its own. A batch that had to outbid may have
// cost more than a member alone can pay: where nothing spends its output any more, it
// begins again at the going rate.
func (s Seat) afresh(payout []byte) script.FeeRate {
	r, v := s.Record, s.View
	if v.Spend != nil && (v.Spend.Height > 0 || s.Rate == 0 && !r.knows(v.Spend.Txid)) {
		return 0
	}
	_, most := s.alone(payout)
	rate := max(s.Rate, script.FeeRate(r.Settlement.Rate), minStep)
	switch {
	case rate > most && v.Spend == nil && most >= minStep:
		return min(max(s.Rate, v.Rate, minStep), most)
	case rate > most:
		return 0
	}
	return rate
}

// Afresh is the rate at which a channel is settled alone once the batch that it was in
// is refused: no less than before; 0 where what it pays does not allow that.
func (s Seat) Afresh(payout []byte) script.FeeRate { return s.afresh(payout) }

// Shares divides the fee of a settlement of several channels (sat) by the sizes of their
// own settlements; what is left of the division is the first one's.
func Shares(seats []Seat, fee int64, payout []byte) []int64 {
	sizes, sum := make([]int64, len(seats)), int64(0)
	for i, s := range seats {
		sizes[i], _ = s.alone(payout)
		sum += sizes[i]
	}
	shares, left := make([]int64, len(seats)), fee
	for i := range seats {
		shares[i] = fee * sizes[i] / max(sum, 1)
		left -= shares[i]
	}
	shares[0] += left
	return shares
}

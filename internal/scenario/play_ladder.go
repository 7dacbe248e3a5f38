package scenario

import (
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
)

// ladder is the classic ladder of {100: c100 s0} on an output of 100 BTC, as the
// story knows it; each side holds its own half.
type ladder struct {
	stage *Stage
	deal  *deal
	turn  script.Side
	state uint32 // number of the newest
}

const (
	ladderTop  = 100
	ladderCoin = 100_000_000 // sat
)

// at is the hold on a side of the ladder.
func (l *ladder) at(side script.Side) *hand {
	if side == script.Payer {
		return &l.stage.payer.hand
	}
	return &l.stage.payee.hand
}

// newLadder funds a ladder from the faucet: the payer's 100 BTC.
func (s *Stage) newLadder() (*ladder, error) {
	tip, err := s.height()
	if err != nil {
		return nil, err
	}
	l := &ladder{stage: s, state: ladderTop}
	var key [2]channel.Key
	for i := range key {
		if err := l.at(script.Side(i)).do("ladder", ladderArgs{Do: "key"}, &key[i]); err != nil {
			return nil, err
		}
	}
	rest, err := s.payer.address()
	if err != nil {
		return nil, err
	}
	t := channel.Terms{
		Network: "regtest", Construction: script.Duplex, TxVersion: 2, Nonce: ladderNonce, Capacity: ladderTop * ladderCoin,
		PayerKey: key[script.Payer], PayeeKey: key[script.Payee],
		RestScript: rest, PayeeRest: s.payout, Expiry: tip + 30, Margin: 1, Step: 1, Confirmations: 1,
	}
	pk, err := script.OutputScript(t.Construction, t.PayerKey, t.PayeeKey, t.Expiry)
	if err != nil {
		return nil, err
	}
	var txid chainhash.Hash
	if err := s.node.order(s.ctx, "faucet", faucetArgs{pk, int64(t.Capacity)}, &txid); err != nil {
		return nil, err
	}
	info, err := s.chain.Tx(s.ctx, txid)
	if err != nil {
		return nil, err
	}
	for i, out := range info.Tx.TxOut {
		if string(out.PkScript) == string(pk) {
			t.Outpoint = channel.Outpoint{Hash: txid, Index: uint32(i)}
		}
	}
	l.deal = &deal{id: t.ID(), terms: t, funding: info.Tx, given: true}
	s.book.had.Payer += int64(t.Capacity)
	s.channels = append(s.channels, l.deal)
	s.book.note(entry{tx: info.Tx, by: Payer, role: roleFunding, taken: true})
	for i := range key {
		if err := l.at(script.Side(i)).do("ladder", ladderArgs{Do: "begin", Terms: t, Top: ladderTop}, nil); err != nil {
			return nil, err
		}
	}
	return l, s.mine(1)
}

// next plays one state, proposed by whose turn it is, and answered.
func (l *ladder) next(share uint64) error {
	tip, err := l.stage.height()
	if err != nil {
		return err
	}
	by, other := l.at(l.turn), l.at(l.turn.Other())
	var proposed, answered channel.Rung
	if err := by.do("ladder", ladderArgs{Do: "propose", Share: share, Tip: tip}, &proposed); err != nil {
		return err
	}
	if err := other.do("ladder", ladderArgs{Do: "answer", Rung: proposed, Tip: tip}, &answered); err != nil {
		return err
	}
	if err := by.do("ladder", ladderArgs{Do: "answered", Rung: answered}, nil); err != nil {
		return err
	}
	l.turn, l.state = l.turn.Other(), proposed.Number
	l.deal.take(channel.Update{Amount: share})
	l.deal.delivered, l.deal.verified = share*1000, share*1000
	l.stage.exposed()
	return nil
}

// complete is the settlement of a state that a side holds, or held.
func (l *ladder) complete(side script.Side, number uint32, rate script.FeeRate) (*wire.MsgTx, error) {
	return l.at(side).tx("ladder", ladderArgs{Do: "complete", Number: number, Rate: rate})
}

// replayLadder: {100: c100 s0}, {99: c99 s1}, … {90: c90 s10}; the payer broadcasts
// state 99 as soon as it can, the payee answers with 90.
func replayLadder(s *Stage) error {
	l, err := s.newLadder()
	if err != nil {
		return err
	}
	t := l.deal.terms
	s.tell("The classic ladder: 100 BTC, one state for each number, each lock a block lower than the one before. A step of one block is for demonstrations: it holds only without censorship and reorgs.")
	for share := uint64(1); share <= 10; share++ {
		if err := l.next(share * ladderCoin); err != nil {
			return err
		}
	}
	lock99, _ := channel.Ladder{Terms: t, Top: ladderTop}.Lock(99)
	lock90, _ := channel.Ladder{Terms: t, Top: ladderTop}.Lock(l.state)
	s.tell("Ten payments of 1 BTC each: {100: c100 s0}, {99: c99 s1}, … {90: c90 s10}. State 99 is valid from height %d on, state 90 from %d on; the refund, 100, from %d on.", lock99, lock90, t.Expiry)
	s.marks = append(s.marks, mark{"9", "state 99 valid", lock99}, mark{"0", "state 90 valid", lock90})
	stale, err := l.complete(script.Payer, 99, 4*perVB)
	if err != nil {
		return err
	}
	if err := s.race(l, stale, lock90, lock99); err != nil {
		return err
	}
	return s.bury()
}

// race lets the provider broadcast its newest state as soon as it is valid, in blocks
// that have no room for it; the payer's old one follows as soon as it can, pays more,
// and is outbid.
func (s *Stage) race(l *ladder, stale *wire.MsgTx, lock90, lock99 uint32) error {
	if err := s.until(lock90 - 1); err != nil {
		return err
	}
	latest, err := l.complete(script.Payee, l.state, 2*perVB)
	if err != nil {
		return err
	}
	early, err := s.refused(Payee, roleSettlement, latest, nonFinal)
	if err != nil {
		return err
	}
	if err := s.censor(); err != nil {
		return err
	}
	if err := s.broadcast(Payee, roleSettlement, latest); err != nil {
		return err
	}
	reason, err := s.refused(Payer, roleOldState, stale, nonFinal)
	if err != nil {
		return err
	}
	s.tell("The provider broadcasts state 90 at height %d; a block earlier it was %s. The payer tries state 99, which leaves it 99 BTC: %s.", lock90, early, reason)
	for range lock99 - lock90 {
		if err := s.censor(); err != nil {
			return err
		}
	}
	if err := s.broadcast(Payer, roleOldState, stale); err != nil {
		return err
	}
	s.tell("For nine blocks nobody mines state 90; an idle provider would stand as badly. At height %d state 99 is valid, and the payer broadcasts it at twice the rate: it replaces 90 in every mempool.", lock99)
	if err := s.draw(); err != nil {
		return err
	}
	if latest, err = l.complete(script.Payee, l.state, 8*perVB); err != nil {
		return err
	}
	if err := s.broadcast(Payee, roleSettlement, latest); err != nil {
		return err
	}
	s.tell("The provider sees it, and completes state 90 again at twice that. State 90 is what is mined: 90 BTC and 10 BTC.")
	return nil
}

package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// ladderArgs is what one side of a classic ladder is asked for: one of begin, propose,
// answer, answered, complete.
type ladderArgs struct {
	Do     string         `json:"do"`
	Terms  channel.Terms  `json:"terms,omitzero"`
	Top    uint32         `json:"top,omitempty"`
	Share  uint64         `json:"share,omitempty"` // sat, the payee's
	Tip    uint32         `json:"tip,omitempty"`
	Rung   channel.Rung   `json:"rung,omitzero"`
	Number uint32         `json:"number,omitempty"` // of the state to complete
	Rate   script.FeeRate `json:"rate,omitempty"`
}

func (b *buyer) ladder(ctx context.Context, a ladderArgs) (any, error) {
	key, err := b.keys.PayerChannelKey(0)
	if err != nil {
		return nil, err
	}
	return rungs{&b.gear, script.Payer, key}.do(ctx, a)
}

func (s *seller) ladder(ctx context.Context, a ladderArgs) (any, error) {
	key, err := s.keys.PayeeChannelKey(ladderNonce)
	if err != nil {
		return nil, err
	}
	return rungs{&s.gear, script.Payee, key}.do(ctx, a)
}

// ladderNonce is what the payee's key of the ladder is derived from.
var ladderNonce = channel.Nonce{15: 1}

// rungs is one side of the classic ladder, by the rules of package channel. All that
// it ever held is kept in its store.
type rungs struct {
	*gear
	side script.Side
	key  *btcec.PrivateKey
}

const ladderBucket = "scenario/ladder"

// do carries out one order, and saves what this side holds after it.
func (r rungs) do(ctx context.Context, a ladderArgs) (any, error) {
	if a.Do == "key" {
		return channel.Key(r.key.PubKey().SerializeCompressed()), nil
	}
	if a.Do == "begin" {
		l := channel.Ladder{Terms: a.Terms, Side: r.side, Top: a.Top, Held: channel.Rung{Number: a.Top}}
		if err := l.Check(true); err != nil {
			return nil, err
		}
		return nil, r.save(ctx, l)
	}
	held, err := r.load(ctx, "newest")
	if err != nil {
		return nil, err
	}
	ch, err := held.Terms.Script()
	if err != nil {
		return nil, err
	}
	switch a.Do {
	case "propose":
		next, state, err := held.Propose(a.Share, a.Tip)
		if err != nil {
			return nil, err
		}
		rung := next.Sent
		if rung.Signature, err = ch.SignState(r.key, state); err != nil {
			return nil, err
		}
		return rung, r.save(ctx, next)
	case "answer":
		next, state, err := held.Answer(ch, a.Rung, a.Tip)
		if err != nil {
			return nil, err
		}
		rung := a.Rung
		if rung.Signature, err = ch.SignState(r.key, state); err != nil {
			return nil, err
		}
		return rung, r.save(ctx, next)
	case "answered":
		next, err := held.Answered(ch, a.Rung)
		if err != nil {
			return nil, err
		}
		return nil, r.save(ctx, next)
	case "complete":
		return r.complete(ctx, ch, a)
	}
	return nil, fmt.Errorf("a ladder knows no %q", a.Do)
}

// complete is the settlement of a state that this side holds, or held.
func (r rungs) complete(ctx context.Context, ch *script.Channel, a ladderArgs) (any, error) {
	held, err := r.load(ctx, fmt.Sprint(a.Number))
	if err != nil {
		return nil, err
	}
	claim, err := held.Claim(ch)
	if err != nil {
		return nil, err
	}
	home := held.Terms.PayeeRest
	if r.side == script.Payer {
		home = held.Terms.RestScript
	}
	claim.PayeeKey = r.key
	tx, _, err := script.Settle([]script.Claim{claim}, home, a.Rate)
	if err != nil {
		return nil, err
	}
	return channel.EncodeTx(tx)
}

// save keeps what this side holds, and does not forget what it held.
func (r rungs) save(ctx context.Context, l channel.Ladder) error {
	raw, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return r.store.Commit(ctx, store.Op{Bucket: ladderBucket, Key: "newest", Value: raw, Expect: store.Any},
		store.Op{Bucket: ladderBucket, Key: fmt.Sprint(l.Held.Number), Value: raw, Expect: store.Any})
}

func (r rungs) load(ctx context.Context, key string) (l channel.Ladder, err error) {
	e, err := r.store.Get(ctx, ladderBucket, key)
	if errors.Is(err, store.ErrNotFound) {
		return l, fmt.Errorf("this side never held state %s of the ladder: %w", key, err)
	} else if err != nil {
		return l, err
	}
	return l, json.Unmarshal(e.Value, &l)
}

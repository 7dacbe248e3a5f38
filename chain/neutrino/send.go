package neutrino

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/btcsuite/btcd/blockchain"
	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"github.com/lightninglabs/neutrino"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/internal/said"
	"github.com/spillway/spillway/chain/internal/scan"
)

// mostPeers is how many peers a transaction is offered to.
const mostPeers = 8

// Broadcast implements chain.Backend: the transaction is offered to the peers, and given to those that ask for it.
// Most peers never say that they refuse one, so nil is no promise: whoever waits for it looks for it in blocks and
// sends it again until then. What cannot be right by itself is refused here. Errors: *chain.RejectError, also where
// all peers that took it say that they refuse it.
func (c *Client) Broadcast(ctx context.Context, tx *wire.MsgTx) error {
	tip, err := c.Tip(ctx)
	if err != nil {
		return err
	}
	if err := sane(tx, tip); err != nil {
		return err
	}
	for _, out := range tx.TxOut {
		c.scan.Hint(out.PkScript)
	}
	mined := false
	if err := c.scan.At(ctx, func(v scan.View) error {
		_, mined = v.Tx(tx.TxHash())
		return nil
	}); err != nil || mined {
		return err
	}
	peers := c.svc.Peers()
	if len(peers) == 0 {
		return c.nobody()
	}
	return c.offerAll(ctx, peers[:min(len(peers), mostPeers)], tx)
}

// offerAll offers a transaction to peers at once. When one has it and says nothing against it that is enough; the
// others may go on asking for it.
func (c *Client) offerAll(ctx context.Context, peers []*neutrino.ServerPeer, tx *wire.MsgTx) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return unavailable("broadcast", ErrClosed)
	}
	c.busy.Add(len(peers))
	c.mu.Unlock()
	verdicts := make(chan verdict, len(peers))
	for _, p := range peers {
		go func() {
			defer c.busy.Done()
			verdicts <- c.offer(p, tx)
		}()
	}
	all := make([]verdict, 0, len(peers))
	for range peers {
		select {
		case v := <-verdicts:
			all = append(all, v)
			if v.taken() {
				return nil
			}
		case <-ctx.Done():
			return unavailable("broadcast", ctx.Err())
		}
	}
	return judge(all)
}

// sane refuses what no node could take now.
func sane(tx *wire.MsgTx, tip chain.Tip) error {
	if err := blockchain.CheckTransactionSanity(btcutil.NewTx(tx)); err != nil {
		return &chain.RejectError{Reason: clip(err.Error())}
	}
	if blockchain.IsCoinBaseTx(tx) {
		return &chain.RejectError{Reason: "a block reward"}
	}
	if !blockchain.IsFinalizedTransaction(btcutil.NewTx(tx), int32(tip.Height+1), tip.Time) {
		return &chain.RejectError{Reason: fmt.Sprintf("non-final: its lock of %d is not over at block %d", tx.LockTime, tip.Height)}
	}
	return nil
}

// verdict is what a peer made of a transaction.
type verdict struct {
	asked   bool   // it wanted to have it
	refused string // its reason; "": it gave none
	known   bool   // it has it already
}

// taken reports whether the peer has the transaction, and nothing against it.
func (v verdict) taken() bool { return v.known || v.asked && v.refused == "" }

// judge makes one answer of several peers': it is refused where one says so and none has taken it.
func judge(all []verdict) error {
	reason := ""
	for _, v := range all {
		if v.taken() {
			return nil
		}
		if v.refused != "" {
			reason = v.refused
		}
	}
	if reason == "" {
		return nil // nobody asked for it: all have it, or none says why it does not want it
	}
	return &chain.RejectError{Reason: "a peer says: " + clip(reason)}
}

// refusalWait is how long a peer that was given a transaction may take to refuse it; most never do.
const refusalWait = time.Second

// offer announces a transaction to a peer, gives it where it is asked for, and waits a while for a refusal.
func (c *Client) offer(p *neutrino.ServerPeer, tx *wire.MsgTx) (v verdict) {
	txid := tx.TxHash()
	msgs, cancel := p.SubscribeRecvMsg()
	defer cancel()
	inv := wire.NewMsgInv()
	if err := inv.AddInvVect(wire.NewInvVect(wire.InvTypeWitnessTx, &txid)); err != nil {
		return v
	}
	p.QueueMessageWithEncoding(inv, nil, wire.WitnessEncoding)
	wait := time.NewTimer(c.cfg.Patience)
	defer wait.Stop()
	for {
		select {
		case <-p.OnDisconnect():
			return v
		case <-c.quit:
			return v
		case <-wait.C:
			return v
		case msg := <-msgs:
			switch m := msg.(type) {
			case *wire.MsgGetData:
				for _, want := range m.InvList {
					if want.Hash == txid && !v.asked {
						v.asked = true
						p.QueueMessageWithEncoding(tx, nil, wire.WitnessEncoding)
						wait.Reset(min(refusalWait, c.cfg.Patience))
					}
				}
			case *wire.MsgReject:
				if m.Hash == txid {
					v.refused = m.Reason
					v.known = m.Code == wire.RejectDuplicate && !strings.Contains(m.Reason, "conflict") && !strings.Contains(m.Reason, "spent by")
					if v.refused == "" {
						v.refused = m.Code.String()
					}
					return v
				}
			}
		}
	}
}

// clip makes a peer's text fit for a log: one line of at most 200 printable bytes.
func clip(s string) string { return said.Clip(s, 200) }

package neutrino

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/btcsuite/btcd/blockchain"
	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"github.com/lightninglabs/neutrino"

	"github.com/spillway/spillway/chain"
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
	ctx, cancel := context.WithTimeout(ctx, 2*c.cfg.Patience)
	defer cancel()
	verdicts := make(chan verdict, len(peers))
	var wg sync.WaitGroup
	for _, p := range peers[:min(len(peers), mostPeers)] {
		wg.Go(func() { verdicts <- c.offer(ctx, p, tx) })
	}
	wg.Wait()
	close(verdicts)
	return judge(verdicts)
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

// judge makes one answer of several peers'.
func judge(all <-chan verdict) error {
	taken, reason := false, ""
	for v := range all {
		taken = taken || v.known || v.refused == ""
		if v.refused != "" && !v.known {
			reason = v.refused
		}
	}
	if taken || reason == "" {
		return nil
	}
	return &chain.RejectError{Reason: "a peer says: " + clip(reason)}
}

// offer announces a transaction to a peer, gives it where it is asked for, and waits a while for a refusal.
func (c *Client) offer(ctx context.Context, p *neutrino.ServerPeer, tx *wire.MsgTx) (v verdict) {
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
		case <-ctx.Done():
			return v
		case <-p.OnDisconnect():
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
						wait.Reset(c.cfg.Patience)
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
func clip(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s[:min(200, len(s))], "?")))
}

package scenario

import (
	"context"
	"fmt"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content/bao"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/payer"
)

// counter is a shop that is asked for the driver's own methods, without HTTP 402.
type counter struct {
	kind part
	// root is that of the file on sale.
	root [32]byte
	call func(ctx context.Context, do string, args, result any) error
}

func (c counter) ask(ctx context.Context, do string, args, result any) error {
	return c.call(ctx, do, args, result)
}

func (c counter) quote(ctx context.Context) (uint64, error) {
	var o channel.Offer
	err := c.ask(ctx, "offer", struct{}{}, &o)
	return o.Credit, err
}

func (c counter) open(ctx context.Context, b *buyer) (id string, err error) {
	var o channel.Offer
	if err := c.ask(ctx, "offer", struct{}{}, &o); err != nil {
		return "", err
	}
	r, err := b.Prepare(ctx, payer.OpenRequest{Offer: o, Construction: c.kind.Kind, Capacity: capacity, Origin: "scenario"})
	if err != nil {
		return "", err
	}
	t := r.Terms
	id = t.ID()
	if t.Cosigned() {
		tx, err := b.RefundRequest(ctx, id)
		if err != nil {
			return id, err
		}
		var sig channel.Hex
		err = c.ask(ctx, "prepare", openArgs{Offer: o, Refund: tx, Opening: channel.Opening{
			Construction: t.Construction, PayerKey: t.PayerKey, Outpoint: t.Outpoint, Capacity: t.Capacity, RestScript: t.RestScript,
		}}, &sig)
		if err != nil {
			return id, err
		}
		if err := b.TakeRefundSignature(ctx, id, sig); err != nil {
			return id, err
		}
	}
	op, err := b.Opening(ctx, id)
	if err != nil {
		return id, err
	}
	if err := c.ask(ctx, "open", openArgs{Offer: o, Opening: op}, nil); err != nil {
		return id, err
	}
	return id, b.Accepted(ctx, id)
}

func (c counter) pay(ctx context.Context, id string, u channel.Update) error {
	return c.ask(ctx, "pay", payee.Request{Channel: id, Update: &u}, nil)
}

func (c counter) chunk(ctx context.Context, id string, u channel.Update, chunk uint64) (slice, error) {
	var got payAnswer
	q := payee.Request{Channel: id, Update: &u, Items: []payee.Item{{Resource: c.root, Chunk: chunk, Price: price}}}
	err := c.ask(ctx, "pay", q, &got)
	return slice{got.Slice, sliceOf(c.root, chunk)}, err
}

// sliceOf is what a chunk has to be.
func sliceOf(root [32]byte, chunk uint64) bao.Slice {
	return bao.Slice{Root: root, Size: fileChunks * chunkBytes, GroupBytes: groupBytes, Offset: chunk * chunkBytes, Length: chunkBytes}
}

func (c counter) back(ctx context.Context, b *buyer, id string) error {
	var got payee.Returned
	if err := c.ask(ctx, "returned", id, &got); err != nil {
		return err
	}
	return b.TakeBack(ctx, id, got.Back, got.State)
}

func (c counter) close(ctx context.Context, b *buyer, id string) error {
	if _, err := b.tryClose(ctx, id); err != nil {
		return err
	}
	r, err := b.Record(ctx, id)
	if err != nil || r.Terms.Cosigned() {
		return err
	}
	if r.Close == nil {
		return fmt.Errorf("the close of channel %s is not there", id)
	}
	return c.ask(ctx, "final", closeArgs{ID: id, Final: r.Close.Tx}, nil)
}

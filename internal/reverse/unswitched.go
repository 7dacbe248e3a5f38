package reverse

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
)

// errUnpaid: what is to be handed over was not paid for in time.
var errUnpaid = errors.New("no payment came in time")

// answered charges for the answer of a service that was asked for another protocol and
// speaks none: it costs what it would without the question, else asking would have it
// for nothing. Errors: what keeps it from being charged; it is not handed over then.
func (c *charging) answered(resp *http.Response) error {
	b := &chargedBody{from: resp.Body, c: c, resp: resp, begun: time.Now()}
	n, err := io.ReadFull(b.from, b.head[:])
	b.rest = b.head[:n]
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	if err := b.charge(n, true); err != nil {
		return errors.Join(errUnpaid, err)
	}
	receipt, err := c.flow.Receipt().Encode()
	if err != nil {
		return err
	}
	resp.Header.Set(mpp.HeaderReceipt, receipt)
	if !strings.Contains(resp.Header.Get("Cache-Control"), "no-store") {
		resp.Header.Set("Cache-Control", "private")
	}
	if c.unit != bitcoin.UnitRequest {
		resp.Header.Del("Content-Length") // what it came to in the end is said behind it
		if resp.ContentLength = -1; resp.Trailer == nil {
			resp.Trailer = http.Header{}
		}
		resp.Trailer[mpp.HeaderReceipt] = nil
	}
	resp.Body = b
	return nil
}

// chargedBody is such an answer's body: what is read was charged.
type chargedBody struct {
	from  io.ReadCloser
	c     *charging
	resp  *http.Response
	begun time.Time
	spent uint64 // seconds that were charged
	head  [chargedBlock]byte
	rest  []byte // charged, and not handed over yet
}

// charge charges for n more bytes; first is for the beginning.
func (b *chargedBody) charge(n int, first bool) error {
	units := uint64(0)
	switch b.c.unit {
	case bitcoin.UnitByte:
		units = uint64(n)
	case bitcoin.UnitSecond:
		now := uint64(time.Since(b.begun)/time.Second) + 1
		units, b.spent = now-b.spent, now
	default:
		if first {
			units = 1
		}
	}
	if units == 0 {
		return nil
	}
	return b.c.flow.Charge(b.c.ctx, units, nil)
}

// Read implements io.Reader. Errors: what keeps the next bytes from being charged.
func (b *chargedBody) Read(p []byte) (int, error) {
	if len(b.rest) > 0 {
		n := copy(p, b.rest)
		b.rest = b.rest[n:]
		return n, nil
	}
	n, err := b.from.Read(p[:min(len(p), chargedBlock)])
	if failed := b.charge(n, false); failed != nil {
		return 0, errors.Join(errUnpaid, failed)
	}
	if err == io.EOF && b.c.unit != bitcoin.UnitRequest {
		receipt, failed := b.c.flow.Receipt().Encode()
		if failed != nil {
			return n, failed
		}
		b.resp.Trailer.Set(mpp.HeaderReceipt, receipt)
	}
	return n, err
}

// Close implements io.Closer.
func (b *chargedBody) Close() error { return b.from.Close() }

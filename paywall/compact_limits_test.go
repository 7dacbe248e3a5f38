package paywall_test

import (
	"encoding/binary"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/paywall"
)

// What limits a payer's requests limits its orders over the compact transport, together
// with those over HTTP.
func TestLimitsHoldForCompactOrders(t *testing.T) {
	m := newMallWith(t, paywall.MiddlewareConfig{
		Price: paywall.Price{Msat: 1000, Unit: bitcoin.UnitRequest, Credit: 20_000}, Limit: paywall.Limit{PerSecond: 0.001, Burst: 3},
	}, echo)
	m.get("/feed")
	mine, _ := m.records()
	ws, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(m.web.URL, "http")+"/feed", &websocket.DialOptions{Subprotocols: []string{"spillway.compact.1"}})
	must(t, err)
	t.Cleanup(func() { _ = ws.CloseNow() })
	a := &rawCompact{t: t, ws: ws}
	kind, body := a.next()
	if kind != 0x41 {
		t.Fatalf("a greeting %#x", kind)
	}
	a.nonce = body[1:17]
	a.bind(0, m.credential(mine.Signed, a.key()))
	if kind, _ := a.next(); kind != 0x42 {
		t.Fatalf("bound: %#x", kind)
	}
	u := m.Update(mine.Terms.ID(), mine.Signed)
	var got []int
	for i := range 4 {
		key := fmt.Sprint("order ", i)
		order := binary.AppendUvarint([]byte{0, byte(i)}, u.Amount)
		order = append(append(order, byte(len(u.Signature))), u.Signature...)
		order = append(append(order, byte(len(key))), key...)
		a.send(3, append(order, 0, 0))
		for {
			kind, body := a.next()
			if kind == 0x44 {
				status, _ := binary.Uvarint(body[1:])
				got = append(got, int(status))
			}
			if kind == 0x46 || kind == 0 || kind == 0x47 {
				break
			}
		}
	}
	want := []int{http.StatusOK, http.StatusOK, http.StatusTooManyRequests, http.StatusTooManyRequests}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("answers are %v, want %v", got, want)
	}
}

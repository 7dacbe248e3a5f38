package paywall_test

import (
	"bufio"
	"fmt"
	"net/http"
	"testing"

	"github.com/coder/websocket"

	"github.com/spillway/spillway/paywall"
)

// Whoever leaves streams early, any number of times in a row and after any number of
// events, is served again with nothing paid ahead: what was charged and left is within the
// provider's credit, and what is paid is never more than what was charged.
func TestStreamsAreLeftAnyNumberOfTimes(t *testing.T) {
	leave := map[string]func(m *mall, read int){
		"events": func(m *mall, read int) {
			resp, err := m.http().Get(m.web.URL + "/")
			must(m.t, err)
			lines := bufio.NewReader(resp.Body)
			for range read * 4 {
				_, err := lines.ReadString('\n')
				must(m.t, err)
			}
			must(m.t, resp.Body.Close())
		},
		"messages": func(m *mall, read int) {
			s := m.socket("/")
			for range read {
				_, _, err := s.Read(within(m.t))
				must(m.t, err)
			}
			must(m.t, s.Close())
		},
	}
	for name, handler := range map[string]http.HandlerFunc{"events": telling(50), "messages": sending(t, 50, websocket.MessageText, 10)} {
		for _, credit := range []uint64{0, 2_500} { // the default, and one that is no whole number of events
			t.Run(fmt.Sprint(name, credit), func(t *testing.T) {
				m := newMall(t, paywall.Price{Msat: 1_000, Unit: "event", Credit: credit}, handler)
				came := uint64(0)
				for i := range 14 {
					read := i * 3 % 8
					leave[name](m, read)
					came += uint64(read)
				}
				must(t, m.paying.Close(ctx))
				mine, theirs := m.records()
				if mine.Signed*1000 > theirs.Charged+1000 && mine.Signed > mine.Terms.MinimumCharge {
					t.Errorf("%d sat are signed, %d msat charged", mine.Signed, theirs.Charged)
				}
				if theirs.Charged < came*1000 || mine.Owed > theirs.Charged {
					t.Errorf("%d events came, %d msat are charged, %d are in the ledger", came, theirs.Charged, mine.Owed)
				}
			})
		}
	}
}

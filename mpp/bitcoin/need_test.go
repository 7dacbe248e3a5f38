package bitcoin_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/spillway/spillway/mpp/bitcoin"
)

// FuzzNeedVoucher: what is taken is written again with the same meaning; what is refused
// changes nothing.
func FuzzNeedVoucher(f *testing.F) {
	id := strings.Repeat("ab", 32) + ":0"
	whole, err := bitcoin.NeedVoucher{ChannelID: id, RequiredCumulative: 250, AcceptedCumulative: 200, Deposit: 5000, ChargedMsat: 249_001}.MarshalJSON()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	for _, s := range []string{`{}`, `[]`, `{"channelId":1}`, strings.Replace(string(whole), `"250"`, `"0250"`, 1), strings.Replace(string(whole), `"250"`, `250`, 1), strings.Replace(string(whole), `}`, `,"more":[1,2]}`, 1), strings.Replace(string(whole), `"200"`, `"2100000000000001"`, 1)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bitcoin.NeedVoucher{ChannelID: "x", Deposit: 1}
		n := before
		if err := n.UnmarshalJSON(data); err != nil {
			if n != before || !errors.Is(err, bitcoin.ErrReceipt) {
				t.Fatalf("%v; %+v", err, n)
			}
			return
		}
		raw, err := n.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var again bitcoin.NeedVoucher
		if err := again.UnmarshalJSON(raw); err != nil || again != n {
			t.Fatalf("%+v became %+v: %v", n, again, err)
		}
	})
}

package paywall

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/big"
	"regexp"
	"strings"
	"testing"

	"github.com/spillway/spillway/mpp/bitcoin"
)

var lineEnd = regexp.MustCompile("\r\n|\r|\n")

// told is what the standard makes of a stream: of each event that ends its id, its name,
// and whether it has data.
type told struct {
	id, name string
	data     bool
}

func asTold(stream string) (all []told) {
	now := told{}
	for first := true; ; first = false {
		at := lineEnd.FindStringIndex(stream)
		if at == nil {
			return all
		}
		line := stream[:at[0]]
		stream = stream[at[1]:]
		if first {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		if line == "" && !(first && at[0] > 0) {
			all = append(all, now)
			now = told{}
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case name == "data":
			now.data = true
		case name == "event":
			now.name = value
		case name == "id" && !strings.Contains(value, "\x00"):
			now.id = value
		}
	}
}

// FuzzEvents cuts any stream into its events: the same ones however it comes in parts,
// those that the standard says, and nothing of it is lost or changed.
func FuzzEvents(f *testing.F) {
	for _, s := range []string{
		"data: a\n\n", "id: 1\r\ndata: a\r\n\r\n", "data\r\rdata:b\r\r", ": c\n\n", "\ufeffdata: x\n\n", "event: payment-receipt\ndata: {}\n\n",
		"event: payment-need-voucher\ndata: {\"channelId\":\"x\"}\n\ndata: b\n\n", "id: a\x00b\ndata: x\n\n", "\n\n\n", "\r\n\r\r\n\n", "data: " + strings.Repeat("x", maxEvent) + "\nid: 9\n\ndata: y\n\n",
		strings.Repeat("y", maxEvent+7), "retry: 3\n\nid\n\ndata", "data: not ended", "\ufeff\n\n",
	} {
		f.Add([]byte(s), uint16(1), uint16(3))
		f.Add([]byte(s), uint16(7), uint16(64))
	}
	f.Fuzz(func(t *testing.T, data []byte, a, b uint16) {
		if len(data) > 3*maxEvent {
			return
		}
		var cut events
		var all bytes.Buffer
		var got []told
		now := told{}
		parts, sizes := data, []int{int(a) + 1, int(b) + 1}
		for i := 0; len(parts) > 0; i++ {
			n := min(len(parts), sizes[i%2])
			if err := cut.feed(parts[:n], func(p piece) error {
				all.Write(p.raw)
				now.data = now.data || p.event
				if p.last {
					now.id, now.name = p.id, p.name
					got = append(got, now)
					now = told{}
				}
				if len(p.raw) > maxEvent+2*(1<<16) {
					t.Fatalf("a piece of %d bytes", len(p.raw))
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			parts = parts[n:]
		}
		all.Write(cut.rest())
		if !bytes.Equal(all.Bytes(), data) {
			t.Fatalf("%q became %q", data, all.Bytes())
		}
		if len(data) >= maxEvent {
			return // a long event may be cut within a name
		}
		want := asTold(string(data))
		if len(got) != len(want) {
			t.Fatalf("%d events of %q, want %d", len(got), data, len(want))
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("event %d of %q is %+v, want %+v", i, data, got[i], want[i])
			}
		}
	})
}

// FuzzEventReader reads any stream that a provider may send: whatever it says of
// payments is taken out and nothing else, however it is read.
func FuzzEventReader(f *testing.F) {
	need, err := textOf(bitcoin.EventNeedVoucher, bitcoin.NeedVoucher{ChannelID: strings.Repeat("ab", 32) + ":0", RequiredCumulative: 5})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("data: a\n\n"+string(need)+"data: b\n\n"), uint16(5))
	f.Add(append(need, need...), uint16(1))
	f.Add([]byte("data: a\r\n\r\n: c\n\nid: 7\ndata"), uint16(100))
	f.Add([]byte("event: payment-receipt\n\n"), uint16(2))
	f.Fuzz(func(t *testing.T, data []byte, size uint16) {
		if len(data) >= maxEvent {
			return
		}
		e := newEventReader(&paidBody{body: io.NopCloser(bytes.NewReader(data))})
		e.buf = make([]byte, int(size)+1)
		var got bytes.Buffer
		for p := make([]byte, int(size)+1); ; {
			n, err := e.read(p)
			got.Write(p[:n])
			if err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		var want bytes.Buffer
		var cut events
		if err := cut.feed(data, func(p piece) error {
			if !p.payment() {
				want.Write(p.raw)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		want.Write(cut.rest())
		// an LF that came apart from its CR may stay where an event was taken out
		if !bytes.Equal(bytes.ReplaceAll(got.Bytes(), []byte("\n"), nil), bytes.ReplaceAll(want.Bytes(), []byte("\n"), nil)) {
			t.Fatalf("%q became %q, want %q", data, got.Bytes(), want.Bytes())
		}
	})
}

// FuzzRates reads any file of rates: what is taken means exactly what arithmetic on big
// numbers says, and is read again as it is written.
func FuzzRates(f *testing.F) {
	for _, s := range []string{"EUR 65432.10\n", "USD 1 # x", "EUR 0.000001\nCHF 999999999.999999", "EUR 1e5", "EUR .5", "EUR 1.", "# only\n\n", "EUR 1\nEUR 1", "EUR\t7\r\nUSD 8", "EUR 00012.5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rates, err := parseRates(strings.NewReader(text))
		if err != nil {
			if !errors.Is(err, ErrRate) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		for name, n := range rates {
			again, err := millionths(decimalOf(n))
			if err != nil || again != n || n == 0 || !currencyName(name) {
				t.Fatalf("%s %d is written %q and read %d, %v", name, n, decimalOf(n), again, err)
			}
			exact, ok := new(big.Rat).SetString(decimalOf(n))
			if !ok || exact.Cmp(new(big.Rat).SetFrac(new(big.Int).SetUint64(n), big.NewInt(1_000_000))) != 0 {
				t.Fatalf("%d millionths are written %q", n, decimalOf(n))
			}
			p := fiat{amount: 50_000, currency: name, rates: RateFunc(func(context.Context, string) (uint64, error) { return n, nil })}
			msat, err := p.msat(t.Context())
			want := new(big.Rat).SetFrac(new(big.Int).Mul(big.NewInt(50_000), big.NewInt(100_000_000_000)), new(big.Int).SetUint64(n))
			up := new(big.Int).Quo(new(big.Int).Add(want.Num(), new(big.Int).Sub(want.Denom(), big.NewInt(1))), want.Denom())
			if err == nil && up.Cmp(new(big.Int).SetUint64(msat)) != 0 {
				t.Fatalf("0.05 at %s are %d msat, want %s", decimalOf(n), msat, up)
			}
		}
	})
}

package paywall_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/keys"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/store/memory"
	"github.com/spillway/spillway/wallet"
)

// exampleSides is a provider's server and a payer's client on a chain of their own. A
// real program uses a chain backend, a store on disk and words that it keeps.
func exampleSides(ctx context.Context) (*paywall.Server, *paywall.Client, error) {
	node, err := devnet.New(devnet.Config{MineOnTx: true})
	if err != nil {
		return nil, nil, err
	}
	side := func() (keys.Keyring, *memory.Store, *wallet.Wallet, []byte, error) {
		words, err := keys.NewMnemonic(rand.Reader)
		if err != nil {
			return keys.Keyring{}, nil, nil, nil, err
		}
		ring, err := keys.FromMnemonic(words, devnet.Params())
		if err != nil {
			return keys.Keyring{}, nil, nil, nil, err
		}
		db := memory.New()
		coins, err := wallet.New(ctx, wallet.Config{Keys: ring, Chain: node, Store: db, Params: devnet.Params()})
		if err != nil {
			return keys.Keyring{}, nil, nil, nil, err
		}
		pk, err := coins.ReceiveScript(ctx)
		return *ring, db, coins, pk, err
	}
	sellerKeys, sellerDB, _, payout, err := side()
	if err != nil {
		return nil, nil, err
	}
	buyerKeys, buyerDB, coins, receive, err := side()
	if err != nil {
		return nil, nil, err
	}
	if _, err := node.Faucet(ctx, receive, 1_000_000); err != nil {
		return nil, nil, err
	}
	seller, err := payee.New(payee.Config{
		Store: sellerDB, Keys: &sellerKeys, Chain: node, Network: "regtest", Payout: payout,
		Policy: channel.DefaultPolicy("regtest"), Now: time.Now, Rand: rand.Reader,
	})
	if err != nil {
		return nil, nil, err
	}
	server, err := paywall.NewServer(paywall.ServerConfig{Payee: seller, Keys: &sellerKeys, Network: "regtest", Realm: "example"})
	if err != nil {
		return nil, nil, err
	}
	buyer, err := payer.New(payer.Config{
		Store: buyerDB, Keys: &buyerKeys, Wallet: coins, Chain: node, Network: "regtest",
		Policy: channel.DefaultPolicy("regtest"), Rand: rand.Reader,
	})
	if err != nil {
		return nil, nil, err
	}
	client, err := paywall.NewClient(paywall.ClientConfig{Payer: buyer, Network: "regtest"})
	return server, client, err
}

// A handler is charged for with one line, and an http.Client pays for it.
func ExampleMiddleware() {
	ctx := context.Background()
	server, client, err := exampleSides(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "The weather in %s: rain.", r.URL.Query().Get("city"))
	})
	web := httptest.NewServer(paywall.Middleware(server, paywall.PerRequest(2000))(handler)) // 2 sat
	defer web.Close()

	paying, err := paywall.NewTransport(paywall.TransportConfig{Client: client, Hosts: []string{"127.0.0.1:*"}, MaxPerHost: 1000})
	if err != nil {
		fmt.Println(err)
		return
	}
	buy := http.Client{Transport: paying}
	for _, city := range []string{"Bern", "Basel"} {
		resp, err := buy.Get(web.URL + "/?city=" + city)
		if err != nil {
			fmt.Println(err)
			return
		}
		body, err := io.ReadAll(resp.Body)
		fmt.Println(string(body), errors.Join(err, resp.Body.Close()))
	}
	fmt.Println(paying.Close(ctx))
	// Output:
	// The weather in Bern: rain. <nil>
	// The weather in Basel: rain. <nil>
	// <nil>
}

// Prices by path, a free quota, and a price that depends on the answer.
func ExampleNewMiddleware() {
	server, _, err := exampleSides(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	charge, err := paywall.NewMiddleware(paywall.MiddlewareConfig{
		Server: server,
		Price:  paywall.PerByte(1000, 10_000), // 1 sat for 10 kB
		Rules: map[string]paywall.Price{
			"GET /status": {}, // free
			"POST /ask": paywall.ByAnswer(5000, func(_ *http.Request, a paywall.Answer) uint64 {
				return uint64(max(a.Size, 0)) // a msat for each byte, at most 5 sat
			}),
		},
		FreePerDay: 1,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	web := httptest.NewServer(charge(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "fine") })))
	defer web.Close()
	for _, path := range []string{"/status", "/data", "/data"} {
		resp, err := http.Get(web.URL + path)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(path, resp.Status, resp.Body.Close())
	}
	// Output:
	// /status 200 OK <nil>
	// /data 200 OK <nil>
	// /data 402 Payment Required <nil>
}

// Nothing is paid to a host that was not allowed, and the error says so.
func ExampleNewTransport() {
	server, client, err := exampleSides(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	web := httptest.NewServer(paywall.Middleware(server, paywall.PerRequest(2000))(http.NotFoundHandler()))
	defer web.Close()
	paying, err := paywall.NewTransport(paywall.TransportConfig{Client: client, Hosts: []string{"*.example"}, MaxPerHost: 1000})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = (&http.Client{Transport: paying}).Get(web.URL)
	var refused *paywall.PaymentError
	fmt.Println(errors.Is(err, paywall.ErrNotAllowed), errors.As(err, &refused))
	// Output: true true
}

// Sell charges for a handler by the request, and for a folder by the byte.
package main

import (
	"context"
	"crypto/rand"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/chain/esplora"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/keys"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/store/sqlite"
	"github.com/spillway/spillway/wallet"
	"github.com/spillway/spillway/watch"
)

func main() { // sell ESPLORA-URL DATABASE ADDRESS FOLDER; the words are in $WORDS
	ctx := context.Background()
	node := must(esplora.New(esplora.Config{URL: os.Args[1]}))
	db := must(sqlite.Open(ctx, os.Args[2], sqlite.Options{}))
	ring := must(keys.FromMnemonic(os.Getenv("WORDS"), devnet.Params()))
	coins := must(wallet.New(ctx, wallet.Config{Keys: ring, Chain: node, Store: db, Params: devnet.Params()}))
	driver := must(payee.New(payee.Config{Store: db, Keys: ring, Chain: node, Network: "regtest", Payout: must(coins.ReceiveScript(ctx)),
		Policy: channel.DefaultPolicy("regtest"), Now: time.Now, Rand: rand.Reader}))
	server := must(paywall.NewServer(paywall.ServerConfig{Payee: driver, Keys: ring, Network: "regtest", Realm: "examples"}))
	go (&watch.Watch{Chain: node, Drivers: []watch.Driver{driver}}).Run(ctx, time.Tick(time.Second))
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { log.Print(w.Write([]byte("It rains.\n"))) })
	http.Handle("/weather", paywall.Middleware(server, paywall.PerRequest(2000))(hello))                             // 2 sat
	http.Handle("/", paywall.Middleware(server, paywall.PerByte(1000, 1000))(http.FileServer(http.Dir(os.Args[4])))) // 1 sat for 1 kB
	log.Fatal(http.ListenAndServe(os.Args[3], nil))
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

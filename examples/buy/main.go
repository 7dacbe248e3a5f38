// Buy fetches URLs with an http.Client that pays for them, and closes its channels.
package main

import (
	"context"
	"crypto/rand"
	"io"
	"log"
	"net/http"
	"os"

	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/chain/esplora"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/keys"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/store/sqlite"
	"github.com/spillway/spillway/wallet"
)

func main() { // buy ESPLORA-URL DATABASE HOST URL...; the words are in $WORDS
	ctx := context.Background()
	node := must(esplora.New(esplora.Config{URL: os.Args[1]}))
	db := must(sqlite.Open(ctx, os.Args[2], sqlite.Options{}))
	ring := must(keys.FromMnemonic(os.Getenv("WORDS"), devnet.Params()))
	coins := must(wallet.New(ctx, wallet.Config{Keys: ring, Chain: node, Store: db, Params: devnet.Params()}))
	driver := must(payer.New(payer.Config{Store: db, Keys: ring, Wallet: coins, Chain: node, Network: "regtest",
		Policy: channel.DefaultPolicy("regtest"), Rand: rand.Reader}))
	client := must(paywall.NewClient(paywall.ClientConfig{Payer: driver, Network: "regtest"}))
	paying := must(paywall.NewTransport(paywall.TransportConfig{Client: client, Hosts: []string{os.Args[3]}, MaxPerHost: 20_000}))
	for _, url := range os.Args[4:] {
		resp := must((&http.Client{Transport: paying}).Get(url))
		must(io.Copy(os.Stdout, resp.Body))
	}
	must(0, paying.Close(ctx))
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

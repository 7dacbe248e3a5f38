package devnet_test

import (
	"context"
	"fmt"

	"github.com/spillway/spillway/chain/devnet"
)

// A chain in memory: the faucet pays, a block confirms, a reorg undoes it.
func Example() {
	n, err := devnet.New(devnet.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() {
		if err := n.Close(); err != nil {
			fmt.Println(err)
		}
	}()
	ctx := context.Background()
	script := append([]byte{0, 20}, make([]byte, 20)...) // P2WPKH
	txid, err := n.Faucet(ctx, script, 150_000_000_00)
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := n.Mine(1); err != nil {
		fmt.Println(err)
		return
	}
	info, err := n.Tx(ctx, txid)
	fmt.Println(info.Confirmed, info.Height, err)
	if err := n.Reorg(1, 2); err != nil {
		fmt.Println(err)
		return
	}
	info, err = n.Tx(ctx, txid)
	fmt.Println(info.Confirmed, info.Height, err)
	// Output:
	// true 251 <nil>
	// false 0 <nil>
}

package tower_test

import (
	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/spillway/spillway/chain/devnet"
)

func reorg(depth int, drop ...chainhash.Hash) devnet.ReorgOptions {
	return devnet.ReorgOptions{Depth: depth, Length: depth + 1, Drop: drop}
}

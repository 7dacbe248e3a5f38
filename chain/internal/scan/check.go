package scan

import (
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/blockchain"
	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
)

// ErrBadBlock says that a block is not the one that its hash names, within chain.ErrUnavailable.
var ErrBadBlock = errors.New("the block is not what its hash says")

// CheckBlock finds out whether a block's transactions are those that its hash commits to: the header hashes to it,
// the first transaction and no other is the block reward, the Merkle root is theirs, none is there twice (a block can
// be made longer without changing its root by repeating some, CVE-2012-2459), and the witnesses are those that the
// reward commits to. As whole blocks are read and no Merkle branch is believed, a node of the tree cannot pass for a
// transaction of 64 bytes (CVE-2017-12842): the first would have to pass for a block reward. Errors: ErrBadBlock.
func CheckBlock(b *wire.MsgBlock, hash chainhash.Hash) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %w: %s: %s", chain.ErrUnavailable, ErrBadBlock, hash, fmt.Sprintf(format, args...))
	}
	if b == nil || b.BlockHash() != hash {
		return bad("another header")
	}
	if len(b.Transactions) == 0 {
		return bad("no transactions")
	}
	block := btcutil.NewBlock(b)
	seen := make(map[chainhash.Hash]struct{}, len(b.Transactions))
	for i, tx := range block.Transactions() {
		if blockchain.IsCoinBase(tx) != (i == 0) {
			return bad("transaction %d is a block reward, or the first is none", i)
		}
		if _, twice := seen[*tx.Hash()]; twice {
			return bad("transaction %s is in it twice", tx.Hash())
		}
		seen[*tx.Hash()] = struct{}{}
	}
	if root := blockchain.CalcMerkleRoot(block.Transactions(), false); root != b.Header.MerkleRoot {
		return bad("its transactions have the root %s", root)
	}
	if err := blockchain.ValidateWitnessCommitment(block); err != nil {
		return bad("%v", err)
	}
	return nil
}

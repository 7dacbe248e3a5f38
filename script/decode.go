package script

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/wire/v2"
)

// ErrNoTx: bytes that are no transaction, or more than one.
var ErrNoTx = errors.New("no transaction")

// The least that an input and an output take, in bytes.
const (
	leastInput  = 32 + 4 + 1 + 4
	leastOutput = 8 + 1
)

// DecodeTx reads a transaction, whole and without anything behind it. It makes no
// room for more than the bytes can hold. Errors: ErrNoTx.
func DecodeTx(raw []byte) (*wire.MsgTx, error) {
	if !plausible(raw) {
		return nil, fmt.Errorf("%w: it announces more than its %d bytes hold", ErrNoTx, len(raw))
	}
	rd := bytes.NewReader(raw)
	tx := wire.NewMsgTx(2)
	if err := tx.Deserialize(rd); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrNoTx, err)
	}
	if rd.Len() > 0 {
		return nil, fmt.Errorf("%w: %d bytes behind it", ErrNoTx, rd.Len())
	}
	return tx, nil
}

// plausible walks through a transaction without keeping any of it and reports
// whether every count and length that it announces can be true: the library makes
// room for what is announced before it reads it.
func plausible(raw []byte) bool {
	c := cursor{raw: raw}
	c.skip(4)
	inputs := c.count(leastInput)
	segwit := inputs == 0
	if segwit {
		c.skip(1) // the flag
		inputs = c.count(leastInput)
	}
	for range inputs {
		c.skip(32 + 4)
		c.skip(c.count(1))
		c.skip(4)
	}
	for range c.count(leastOutput) {
		c.skip(8)
		c.skip(c.count(1))
	}
	for i := uint64(0); segwit && i < inputs; i++ {
		for range c.count(1) {
			c.skip(c.count(1))
		}
	}
	c.skip(4)
	return !c.bad
}

// cursor reads on; once it is bad it stays so and reads nothing.
type cursor struct {
	raw []byte
	bad bool
}

func (c *cursor) skip(n uint64) {
	if c.bad = c.bad || n > uint64(len(c.raw)); !c.bad {
		c.raw = c.raw[n:]
	}
}

// count reads a variable-length number of things of at least so many bytes each.
func (c *cursor) count(each uint64) (n uint64) {
	if c.bad || len(c.raw) == 0 {
		c.bad = true
		return 0
	}
	first, size := c.raw[0], 0
	if n = uint64(first); first >= 0xfd {
		size = 2 << (first - 0xfd)
	}
	c.skip(1)
	if size > len(c.raw) {
		c.bad = true
		return 0
	}
	switch size {
	case 2:
		n = uint64(binary.LittleEndian.Uint16(c.raw))
	case 4:
		n = uint64(binary.LittleEndian.Uint32(c.raw))
	case 8:
		n = binary.LittleEndian.Uint64(c.raw)
	}
	c.skip(uint64(size))
	if n > uint64(len(c.raw))/each {
		c.bad = true
		return 0
	}
	return n
}

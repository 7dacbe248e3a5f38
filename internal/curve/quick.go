package curve

import (
	"sync"

	"github.com/btcsuite/btcd/btcec/v2"
)

// Bounds of what is kept of keys that check often.
const (
	often    = 8       // good signatures before a key has a table: it pays off after about as many
	tables   = 1 << 10 // tables that are kept, 41 KB each
	counted  = 1 << 13 // keys whose good signatures are counted
	idle     = 8 * tables
	interval = 64 // checks between two looks for a table that is not used any more
)

// quick are the tables of the keys that check often, in this process. A payer's key is
// the same for the life of its channel, and a table makes its signatures a third as
// dear. What a table finds right is right, as the library would say; what it does not
// the library is asked about. It changes how long an answer takes, never the answer.
var quick = cabinet{keys: map[[32]byte]*drawer{}}

// cabinet keeps tables by the x of their keys.
type cabinet struct {
	mu    sync.Mutex
	keys  map[[32]byte]*drawer
	kept  int    // tables
	now   uint64 // checks so far
	looks uint64 // when a table to give up was last looked for
}

type drawer struct {
	good  int // signatures
	at    uint64
	table *table
}

// find is a key's table; nil: it has none yet.
func (c *cabinet) find(x *[32]byte) *table {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now++
	d := c.keys[*x]
	if d == nil {
		return nil
	}
	d.at = c.now
	return d.table
}

// good counts a good signature by a key, and makes its table where it has had enough
// and there is room. Nothing that does not verify leaves anything here.
func (c *cabinet) good(x *[32]byte) {
	if !c.due(x) {
		return
	}
	var v btcec.FieldVal
	v.SetBytes(x)
	t, ok := newTable(&v)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := c.keys[*x]; d != nil && d.table == nil && c.room() {
		d.table = t
		c.kept++
	}
}

// due counts, and reports whether the table is to be made now.
func (c *cabinet) due(x *[32]byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.keys[*x]
	if d == nil {
		if len(c.keys) >= counted {
			c.forget()
		}
		d = &drawer{at: c.now}
		c.keys[*x] = d
	}
	d.good++
	return d.good >= often && d.table == nil && c.room()
}

// forget drops what is counted of keys without a table.
func (c *cabinet) forget() {
	for x, d := range c.keys {
		if d.table == nil {
			delete(c.keys, x)
		}
	}
}

// room reports whether there is a place for one more table. A table is given up only
// where it was not used for long: else many keys in turn would have theirs made anew
// each time.
func (c *cabinet) room() bool {
	if c.kept < tables {
		return true
	}
	if c.now-c.looks < interval {
		return false
	}
	c.looks = c.now
	for x, d := range c.keys {
		if d.table != nil && c.now-d.at > idle {
			delete(c.keys, x)
			c.kept--
		}
	}
	return c.kept < tables
}

// xOf is the x of a public key and whether its y is odd.
func xOf(pub *btcec.PublicKey) (x [32]byte, odd bool) {
	var p btcec.JacobianPoint
	pub.AsJacobian(&p)
	p.X.PutBytes(&x)
	return x, p.Y.IsOdd()
}

package sqlite

import (
	"bytes"
	"hash/maphash"
	"sync"

	"github.com/spillway/spillway/store"
)

// cacheBytes bounds what the entries in memory take, in bytes.
const cacheBytes = 8 << 20

// shards is how many counters tell of entries that are being written.
const shards = 1024

// cache keeps the entries that were read or written last, as they are on the disk. It
// is used only where no other process may write the file.
//
// While a transaction runs, what it touches is not in here: the database alone says
// then which of the two is true. What a reader found is kept only if no transaction
// touched it between the reader's question and its answer.
type cache struct {
	mu    sync.Mutex
	on    bool
	all   map[address]*kept
	ring  kept // its next is the newest, its last the oldest
	bytes int
	seed  maphash.Seed
	busy  [shards]int    // entries that a transaction is writing
	turns [shards]uint64 // begins and ends of such
}

type kept struct {
	at         address
	revision   uint64
	value      []byte
	next, last *kept
}

func newCache(on bool) *cache {
	c := &cache{on: on, all: map[address]*kept{}, seed: maphash.MakeSeed()}
	c.ring.next, c.ring.last = &c.ring, &c.ring
	return c
}

func (c *cache) shard(at address) uint64 { return maphash.Comparable(c.seed, at) % shards }

// question is what a reader remembers of the time when it asked the database.
type question struct {
	at   address
	turn uint64
	void bool // the answer is not to be kept
}

// get returns an entry, its value the caller's; where it is not known, the question
// goes to the database.
func (c *cache) get(bucket, key string) (e store.Entry, ok bool, q question) {
	if !c.on {
		return e, false, question{void: true}
	}
	q.at = address{bucket, key}
	shard := c.shard(q.at)
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.all[q.at]
	if k == nil {
		q.turn, q.void = c.turns[shard], c.busy[shard] > 0
		return e, false, q
	}
	c.unlink(k)
	c.link(k)
	value := bytes.Clone(k.value)
	return store.Entry{Bucket: bucket, Key: key, Value: value, Revision: k.revision}, true, q
}

// learn keeps what the database answered, unless the entry was written meanwhile.
func (c *cache) learn(q question, e store.Entry) {
	if q.void {
		return
	}
	shard := c.shard(q.at)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy[shard] == 0 && c.turns[shard] == q.turn {
		c.put(q.at, e.Revision, e.Value)
	}
}

// begin takes an entry out that a transaction touches, and returns its revision
// where it is known.
func (c *cache) begin(at address) (revision uint64, known bool) {
	if !c.on {
		return 0, false
	}
	shard := c.shard(at)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy[shard]++
	c.turns[shard]++
	k := c.all[at]
	if k == nil {
		return 0, false
	}
	c.drop(k)
	return k.revision, true
}

// end says that a transaction is over; cells are those that it began, as they are on
// the disk where it is there.
func (c *cache) end(cells map[address]*cell, done bool) {
	if !c.on {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for at, cell := range cells {
		shard := c.shard(at)
		c.busy[shard]--
		c.turns[shard]++
		if done && cell.changed && cell.revision > 0 {
			c.put(at, cell.revision, cell.value)
		}
	}
}

// put keeps an entry as the newest, and lets the oldest go where there is too much.
func (c *cache) put(at address, revision uint64, value []byte) {
	if k := c.all[at]; k != nil {
		c.drop(k)
	}
	k := &kept{at: at, revision: revision, value: bytes.Clone(value)}
	if k.size() > cacheBytes/16 {
		return
	}
	c.all[at] = k
	c.link(k)
	for c.bytes += k.size(); c.bytes > cacheBytes; {
		c.drop(c.ring.last)
	}
}

// size is about what an entry takes in memory.
func (k *kept) size() int { return len(k.at.bucket) + len(k.at.key) + len(k.value) + 160 }

func (c *cache) drop(k *kept) {
	c.unlink(k)
	delete(c.all, k.at)
	c.bytes -= k.size()
}

func (c *cache) link(k *kept) {
	k.next, k.last = c.ring.next, &c.ring
	k.next.last, k.last.next = k, k
}

func (c *cache) unlink(k *kept) { k.next.last, k.last.next = k.last, k.next }

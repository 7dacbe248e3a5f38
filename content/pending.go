package content

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Pending is a file that was found and cannot be offered yet: it is being hashed, or
// waits for that.
type Pending struct {
	Name string
	Size uint64 // bytes
	Done uint64 // bytes of it that are hashed
	// Wait is about how long it takes until it is offered; 0: nothing is known of that yet.
	Wait time.Duration
}

// queue is what a Refresh found and has not hashed yet.
type queue struct {
	files map[string]*Pending
	ahead map[string]uint64 // bytes to hash before a file's own
	bytes uint64            // hashed in this Refresh
	began time.Time
}

// leastRate is what is waited for a rate of hashing: until so many bytes were read none
// is known.
const leastRate = 1 << 20

// Preparing returns a file that is not offered yet, by its name.
func (c *Catalogue) Preparing(name string) (Pending, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	p := c.queue.files[name]
	if p == nil {
		return Pending{}, false
	}
	return c.queue.timed(p), true
}

// Pending returns the files below a folder ("" for all) that are not offered yet, by name.
func (c *Catalogue) Pending(folder string) (all []Pending) {
	prefix := ""
	if folder != "" {
		prefix = strings.TrimSuffix(folder, "/") + "/"
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	for name, p := range c.queue.files {
		if strings.HasPrefix(name, prefix) {
			all = append(all, c.queue.timed(p))
		}
	}
	slices.SortFunc(all, func(x, y Pending) int { return cmp.Compare(x.Name, y.Name) })
	return all
}

// timed is a file with how long it takes yet.
func (q *queue) timed(p *Pending) Pending {
	t := *p
	passed := time.Since(q.began)
	if q.bytes < leastRate || passed <= 0 {
		return t
	}
	todo := q.ahead[p.Name] + p.Size
	todo -= min(todo, q.bytes)
	t.Wait = max(time.Second, time.Duration(float64(todo)/float64(q.bytes)*float64(passed)))
	return t
}

// await puts what was found and is not offered yet into the queue. What could not be
// offered the last time, and has not changed, is none of it.
func (c *Catalogue) await(all []found) {
	q := queue{files: map[string]*Pending{}, ahead: map[string]uint64{}, began: time.Now()}
	c.mu.Lock()
	defer c.mu.Unlock()
	var sum uint64
	for _, f := range all {
		if unfit, ok := c.unfit[f.name]; ok && unfit == f.stamp || c.entries[f.name] != nil {
			continue
		}
		size := uint64(max(0, f.stamp.Size))
		q.files[f.name], q.ahead[f.name] = &Pending{Name: f.name, Size: size}, sum
		sum += size
	}
	if len(q.files) > 0 || len(c.queue.files) > 0 {
		c.version++
	}
	c.queue = q
}

// hashed notes how far the file at hand is.
func (c *Catalogue) hashed(name string, done uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.queue.files[name]; p != nil && done > p.Done {
		c.queue.bytes += done - p.Done
		p.Done = done
	}
}

// awaited takes a file out of the queue: it is offered, or cannot be.
func (c *Catalogue) awaited(f found, fits bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.queue.files[f.name]
	if p != nil {
		c.queue.bytes += p.Size - min(p.Size, p.Done)
		delete(c.queue.files, f.name)
		c.version++
	}
	delete(c.unfit, f.name)
	if !fits {
		c.unfit[f.name] = f.stamp
	}
}

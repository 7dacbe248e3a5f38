package gateway

import (
	"testing"

	"github.com/spillway/spillway/content"
)

// What is charged before the first byte is the first chunk that has a price, and
// free chunks are no items.
func TestFreeChunksAreNotCharged(t *testing.T) {
	m := &content.Manifest{Size: 1000, ChunkBytes: 100, ChunkMsat: 5, LastChunkMsat: 7, FreeChunks: 3}
	for _, tt := range []struct {
		first, last, paid uint64
		free              bool
		items             int
	}{
		{0, 2, 2, true, 0}, {0, 3, 3, false, 1}, {1, 9, 3, false, 7}, {3, 4, 3, false, 2}, {9, 9, 9, false, 1}, {0, 0, 0, true, 0},
	} {
		if got := isFree(m, tt.first, tt.last); got != tt.free {
			t.Errorf("%d-%d free: %v", tt.first, tt.last, got)
		}
		if got := firstPaid(m, tt.first, tt.last); got != tt.paid {
			t.Errorf("%d-%d is charged from %d", tt.first, tt.last, got)
		}
		if got := len(paid(items(m, tt.first, tt.last))); got != tt.items {
			t.Errorf("%d-%d: %d items", tt.first, tt.last, got)
		}
	}
}

package content

import (
	"fmt"
)

// Terms are what a provider asks for a file and how it divides it. The zero value
// is none: Price and Chunk must be set.
type Terms struct {
	Price PriceSpec
	Chunk ChunkSpec
	// Preview is how many bytes at the beginning are given away: the chunks that lie
	// wholly in them cost nothing. A file that lies wholly in them is free.
	Preview uint64
}

// check refuses terms that are not set. Errors: ErrZero, ErrTooLarge.
func (t Terms) check() error {
	if _, _, err := t.Price.Apply(1, 1); err != nil {
		return fmt.Errorf("price: %w", err)
	}
	if t.Price.Msat == 0 && t.Price != Free {
		return fmt.Errorf("price: %w", ErrZero)
	}
	_, err := t.Chunk.For(1)
	return err
}

// free returns how many chunks of a file are given away; all of them where it has a
// price that is nothing.
func (t Terms) free(size, chunk uint64) uint64 {
	if n := chunkCount(size, chunk); t.Price == Free || t.Preview >= size {
		return n
	}
	return t.Preview / chunk
}

// sellable returns a file's chunk size in bytes, and refuses a file that the terms do
// not fit before it is hashed: ErrTooCheap, and those of PriceSpec.Apply.
func (t Terms) sellable(size uint64) (chunk uint64, err error) {
	if chunk, err = t.Chunk.For(size); err != nil {
		return 0, err
	}
	n, free := chunkCount(size, chunk), t.free(size, chunk)
	each, _, err := t.Price.apply(size, chunk, free)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrNotOffered, err)
	}
	if n > free && each == 0 {
		return 0, fmt.Errorf("%w: %w: %v for %d chunks; make the chunks larger or the price higher", ErrNotOffered, ErrTooCheap, t.Price, n-free)
	}
	return chunk, nil
}

// Manifest returns an unsigned manifest for a file, with its chunk and group sizes
// and its prices worked out. Errors: those of ChunkSpec.For, PriceSpec.Apply and
// CheckName.
func (t Terms) Manifest(name string, size uint64, root Hash) (m Manifest, err error) {
	m = Manifest{Version: ManifestVersion, Name: name, Size: size, Root: root}
	if m.ChunkBytes, err = t.Chunk.For(size); err != nil {
		return Manifest{}, err
	}
	m.GroupBytes = GroupFor(m.ChunkBytes)
	price := t.Price
	switch free := t.free(size, m.ChunkBytes); {
	case free == m.Chunks():
		price = Free
	case free > 0:
		m.Version, m.FreeChunks = VersionFree, free
	}
	if m.ChunkMsat, m.LastChunkMsat, err = price.apply(size, m.ChunkBytes, m.FreeChunks); err != nil {
		return Manifest{}, err
	}
	return m, m.Validate()
}

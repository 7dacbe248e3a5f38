package bao

import (
	"encoding/binary"
	"fmt"
)

// NodeWriter keeps nodes of a hash tree that were verified, so that bytes can be
// verified again without whoever sent them. p is whole nodes that follow one another
// in pre-order, of which index is the number of the first.
type NodeWriter interface {
	WriteNodes(p []byte, index uint64) error
}

// NodeOffset is where in an outboard the node of a number lies, in bytes.
func NodeOffset(index uint64) int64 { return int64(headerBytes + nodeBytes*index) }

// Header is the beginning of an outboard for content of size bytes.
func Header(size uint64) []byte { return binary.LittleEndian.AppendUint64(nil, size) }

// keptBytes is how much of a tree is gathered before it is handed over.
const keptBytes = 16 << 10

// keep notes a verified node: that of the subtree of n bytes at pos.
func (d *decoder) keep(pos, n uint64, node []byte) error {
	if d.nodes == nil {
		return nil
	}
	index := nodeIndex(d.s.Size, d.group, pos, n)
	if len(d.kept) > 0 && (index != d.keptAt+uint64(len(d.kept))/nodeBytes || len(d.kept) >= keptBytes) {
		if err := d.handOver(); err != nil {
			return err
		}
	}
	if len(d.kept) == 0 {
		d.keptAt = index
	}
	d.kept = append(d.kept, node...)
	return nil
}

// keepBelow notes the nodes of a whole subtree as it travels: each before its halves.
func (d *decoder) keepBelow(pos, n uint64, p []byte) error {
	if d.nodes == nil || n <= d.group {
		return nil
	}
	if err := d.keep(pos, n, p[:nodeBytes]); err != nil {
		return err
	}
	mid := split(n)
	cut := nodeBytes*(1+parents(mid, d.group)) + mid
	if err := d.keepBelow(pos, mid, p[nodeBytes:cut]); err != nil {
		return err
	}
	return d.keepBelow(pos+mid, n-mid, p[cut:])
}

// handOver gives away the nodes that were noted.
func (d *decoder) handOver() error {
	if len(d.kept) == 0 {
		return nil
	}
	p := d.kept
	d.kept = d.kept[:0]
	if err := d.nodes.WriteNodes(p, d.keptAt); err != nil {
		return fmt.Errorf("keep verified nodes: %w", err)
	}
	return nil
}

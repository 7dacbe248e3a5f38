// Package bao is BLAKE3 verified streaming: it builds the tree of a file once
// (the outboard), cuts slices out of the file by seeking, and decodes slices
// while it verifies them group by group.
//
// The encodings are those of Bao with chunk groups: an outboard is the
// length as 8 bytes little-endian followed by the tree's parent nodes of 64
// bytes in pre-order; a slice is the length followed by the parents and
// groups that a byte range touches, in pre-order. The root is the plain
// BLAKE3 hash of the content, whatever the group size.
//
// Every function streams: memory stays flat for any size of file or slice.
// The package never trusts a byte that it reads from an outboard, a source
// of slices or a cache without the hash above it, and it never writes an
// unverified byte to a destination. It knows nothing of prices or networks.
package bao

// Package content is what is sold and bought, without the selling: prices and
// sizes as people write them, signed manifests, the catalogue of a provider's
// folders with their hash trees, verified slices, and the file that a buyer
// fills in verified pieces.
//
// Content is named by its plain BLAKE3 root. Everything streams: memory stays
// flat for any size of chunk or file. The package knows nothing of bitcoin,
// channels or HTTP, computes amounts in whole millisatoshi and never with
// floating point, and never writes an unverified byte under a file's name.
package content

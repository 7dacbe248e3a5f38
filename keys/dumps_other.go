//go:build !linux

package keys

// NoDumps does nothing on this system: whether the memory of a process is dumped
// is set by its administrator.
func NoDumps() error { return nil }

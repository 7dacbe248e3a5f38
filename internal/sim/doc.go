// Package sim plays random days of a channel with the drivers, rules and watches
// that ship: one goroutine, one seed, no wall clock. Between them stand a
// simulated chain (reorgs, censorship, fee spikes, eviction), disks that fail,
// and a network that loses requests and answers; either side may be killed at
// any save, or behave badly.
//
// A run is decided by its seed alone. After every event the invariants of
// docs/protocol.md are checked. A fault counts only where the run shows that it
// happened.
package sim

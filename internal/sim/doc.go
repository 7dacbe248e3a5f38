// Package sim plays random days of several channels with the code that ships: the
// rules, the drivers of both sides, their watches, and the HTTP edge of both sides
// with its codec. One goroutine, one seed, no wall clock. Between the processes
// stand a simulated chain (package simchain), disks (package simdisk) and lines
// that carry bytes, and either side may be killed at any effect, or be dishonest.
//
// A run is decided by its seed alone: the seed draws the day and its events, and
// each event has dice of its own, so that a run with some of its events left out
// is a run too (Plan, Shrink). Every commit, broadcast and message is held against
// the invariants of docs/protocol.md at the moment when it happens, the chain after
// every event. A fault counts only where the run shows that it happened.
//
// It never touches a network or a disk, and it is no part of any program that
// moves money. docs/reliability.md says what is simulated and how to run it.
package sim

// Package killtest plays bad days with real processes: the shipped binary sells and
// buys a file over loopback, with its store on a real disk, while it is killed or
// its disk refuses, at every named point of a session and at random moments.
//
// A named point is a system call by its kind, its object and its number, counted
// over all threads of a process: "sync wal 7" is the moment before the seventh
// fsync of the store's log, "send answer 12" the one before the twelfth answer
// leaves the provider. The processes are the ones that ship, unchanged: a filter
// (seccomp) stops them at these calls, and this process, their tracer (ptrace),
// decides whether the call goes on, fails with an errno, or never happens because
// kill -9 came first.
//
// It never touches the processes' stores by itself: what they hold is asked with
// the commands that people use, and what was acknowledged is read from the bytes
// that left the provider.
package killtest

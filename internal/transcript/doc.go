// Package transcript plays two-party stories against the drivers that ship: a
// payer and a payee with stores in memory and a chain in the process. The stories
// are text files under testdata: a command, a line of dashes, and what it says.
//
// It holds tests only. Each story is also played with either side killed at each
// of its saves; what is paid, charged and mined must be the same in the end.
package transcript

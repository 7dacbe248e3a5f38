// Command fuzz runs the fuzz targets of the module one after the other and writes
// what came of it into a record and into the table of docs/fuzzing.md. A run that
// was stopped goes on where it was.
//
// It never runs two targets at once, and never changes a corpus unless it is told to.
//
//	go run ./tools/fuzz -list
//	go run ./tools/fuzz -fuzztime 60s            every target that has no record yet
//	go run ./tools/fuzz -fuzztime 10m -again -only 'script|channel'
//	go run ./tools/fuzz -keep                    also keep what was found, as corpus
//	go run ./tools/fuzz -table                   only write the table
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"time"
)

type options struct {
	record, doc string
	time        time.Duration
	only        *regexp.Regexp
	again, keep bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var o options
	var only string
	var list, table bool
	f := flag.NewFlagSet("fuzz", flag.ContinueOnError)
	f.StringVar(&o.record, "record", "docs/fuzzing.json", "where the results are kept")
	f.StringVar(&o.doc, "doc", "docs/fuzzing.md", "where the table is written")
	f.DurationVar(&o.time, "fuzztime", time.Minute, "time for each target")
	f.StringVar(&only, "only", "", "targets whose package/name matches this pattern")
	f.BoolVar(&o.again, "again", false, "also targets that have a record; their runs are added up")
	f.BoolVar(&o.keep, "keep", false, "copy a small part of what was found to testdata/fuzz")
	f.BoolVar(&list, "list", false, "list the targets and end")
	f.BoolVar(&table, "table", false, "write the table and end")
	if err := f.Parse(args); err != nil {
		return err
	}
	var err error
	if o.only, err = regexp.Compile(only); err != nil {
		return err
	}
	targets, err := find(".")
	if err != nil {
		return err
	}
	if list {
		for _, t := range targets {
			fmt.Println(t.id())
		}
		return nil
	}
	if table {
		return writeTable(o, targets)
	}
	return errors.Join(runAll(ctx, o, targets), writeTable(o, targets))
}

// runAll runs every wanted target; what fails does not keep the others from running.
func runAll(ctx context.Context, o options, targets []target) error {
	var failed []error
	for _, t := range targets {
		if ctx.Err() != nil {
			return errors.Join(append(failed, ctx.Err())...)
		}
		if !o.only.MatchString(t.id()) {
			continue
		}
		results, err := readRecord(o.record)
		if err != nil {
			return err
		}
		old, known := results[t.id()]
		if known && !o.again {
			continue
		}
		r, err := t.run(ctx, o.time)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", t.id(), err))
			fmt.Printf("%-48s FAILED %v\n", t.id(), err)
			continue
		}
		if o.keep {
			if err := t.keep(ctx); err != nil {
				return err
			}
		}
		if r.Seeds, err = t.seeds(ctx); err != nil {
			return err
		}
		r = r.plus(old)
		if err := saveResult(o.record, t.id(), r); err != nil {
			return err
		}
		fmt.Printf("%-48s %6.0f s %12d executions, %d seeds\n", t.id(), r.Seconds, r.Execs, r.Seeds)
	}
	return errors.Join(failed...)
}

package bench

import (
	"context"
	"fmt"
	"slices"
)

// part is a group of figures that is measured by itself.
type part struct {
	name string
	run  func(ctx context.Context, cfg Config, emit func(Figure) error) error
}

func parts() []part {
	return []part{
		{"payments", AllPayments}, {"latency", Latency}, {"compact", Compact}, {"middleware", Middleware}, {"proxy", Proxy}, {"download", Download}, {"memory", Memory},
	}
}

// Parts are the names of the groups of figures, in the order of a run.
func Parts() (names []string) {
	for _, p := range parts() {
		names = append(names, p.name)
	}
	return names
}

// Run measures some parts, or with none named all of them, and hands each figure on
// as soon as it is known. Nothing is left behind in cfg.Dir.
func Run(ctx context.Context, cfg Config, names []string, emit func(Figure) error) error {
	cfg = cfg.defaults()
	for _, name := range names {
		if !slices.Contains(Parts(), name) {
			return fmt.Errorf("there is no part %q", name)
		}
	}
	for _, p := range parts() {
		if len(names) > 0 && !slices.Contains(names, p.name) {
			continue
		}
		if err := p.run(ctx, cfg, emit); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

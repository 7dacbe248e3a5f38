package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/term"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/paywall"
)

// item is one file that a get buys.
type item struct {
	download.Want
	size  uint64 // bytes
	chunk uint64 // msat, price of a chunk
	total uint64 // msat, price of what is not here
}

// basket is all that one get buys. What comes from one origin is paid in one
// channel, within one budget.
type basket struct {
	items []item
	many  bool // several files, or a folder
}

// fill works out what a get buys: a folder's files take the place of its URL. With
// several files their prices are asked for first, so that the first channel at an
// origin holds enough for all of them, and an address with a mistake is noticed
// before anything is paid.
func (b *buyer) fill(ctx context.Context, wants []download.Want) (basket, error) {
	k := basket{many: len(wants) > 1}
	for _, w := range wants {
		if isFolder(w.URL) {
			k.many = true
			files, err := b.folder(ctx, w)
			if err != nil {
				return k, err
			}
			b.app.out.say("%s: %s", w.URL, count(uint64(len(files)), "file"))
			k.items = append(k.items, files...)
			continue
		}
		it := item{Want: w}
		if len(wants) > 1 {
			p, err := b.buy.Look(ctx, w)
			if err != nil {
				return k, fmt.Errorf("%s: %w", w.URL, err)
			}
			it.size, it.chunk, it.total = p.Manifest.Size, p.Manifest.ChunkMsat, p.Manifest.TotalMsat()
			it.Path = p.Path
		}
		k.items = append(k.items, it)
	}
	if err := k.distinct(); err != nil {
		return k, err
	}
	k.reserve()
	return k, nil
}

// path is where an item goes; "" where that is not known yet.
func (it item) path() string { return it.Path }

// distinct refuses two files for one name: the second would be paid for in vain.
func (k *basket) distinct() error {
	seen := map[string]string{}
	for _, it := range k.items {
		path := it.path()
		if path == "" {
			continue
		}
		if other, ok := seen[path]; ok && it.Stream == nil {
			return usagef("%s and %s would both become %s: get them into different folders", other, it.URL, path)
		}
		seen[path] = it.URL
	}
	return nil
}

// reserve tells each file what else its channel should be able to pay. The files of
// an origin come dearest chunk first, because a channel's credit is that of the file
// that it was opened for; files that go to a pipe stay in order.
func (k *basket) reserve() {
	order := map[string]int{}
	for i := range k.items {
		it := &k.items[i]
		if it.there() {
			it.total = 0
		}
		if o := paywall.Origin(it.URL); order[o] == 0 {
			order[o] = i + 1
		}
	}
	if len(k.items) > 0 && k.items[0].Stream == nil {
		slices.SortStableFunc(k.items, func(x, y item) int {
			return cmp.Or(cmp.Compare(order[paywall.Origin(x.URL)], order[paywall.Origin(y.URL)]), cmp.Compare(y.chunk, x.chunk))
		})
	}
	after := map[string]uint64{}
	for i := range slices.Backward(k.items) {
		it := &k.items[i]
		o := paywall.Origin(it.URL)
		it.Reserve = after[o]
		if sum := after[o] + it.total; sum >= after[o] {
			after[o] = sum
		}
	}
}

// there reports whether a file of the right size lies at an item's place: it is most
// likely the one, and not bought again.
func (it item) there() bool {
	if it.Stream != nil || it.path() == "" {
		return false
	}
	info, err := os.Lstat(it.path())
	return err == nil && info.Mode().IsRegular() && uint64(info.Size()) == it.size
}

// price is what a basket costs at most in sat: the files that are not here, or the
// minimum charge of a channel where that is more. One that was bought in part
// counts whole.
func (k *basket) price(minimum map[string]uint64) (sat uint64) {
	msat := map[string]uint64{}
	for _, it := range k.items {
		msat[paywall.Origin(it.URL)] += it.total
	}
	for origin, sum := range msat {
		if sum > 0 {
			sat += max(channel.CeilSat(sum), minimum[origin])
		}
	}
	return sat
}

// left is how many files and bytes are not here.
func (k *basket) left() (files, bytes uint64) {
	for _, it := range k.items {
		if !it.there() {
			files, bytes = files+1, bytes+it.size
		}
	}
	return files, bytes
}

// agree says what several files cost together, and asks once for all of them where
// nobody has said how much may be paid. It refuses what the budget does not allow,
// before anything is paid.
func (a *app) agree(ctx context.Context, b *buyer, k *basket, f getFlags, lim *download.Limits) error {
	files, bytes := k.left()
	if k.price(nil) == 0 {
		return nil
	}
	minimum := map[string]uint64{}
	for _, it := range k.items {
		origin := paywall.Origin(it.URL)
		if _, known := minimum[origin]; known || it.total == 0 {
			continue
		}
		p, err := b.buy.Plan(ctx, it.Want, nil)
		if err != nil {
			return err
		}
		minimum[origin] = 0
		if p.Channel == "" {
			minimum[origin] = p.MinimumCharge
		}
	}
	sum := k.price(minimum)
	a.out.say("%s, %s, cost %s in all (at most).", count(files, "file"), size(bytes), money(sum*1000))
	if sum > lim.Budget {
		return &failure{exit: exitConsent, code: "budget", message: fmt.Sprintf("this costs %d sat in all, the budget is %d sat", sum, lim.Budget),
			money: "This command paid and locked nothing.", next: "Raise --budget if it is worth more to you, or name fewer files."}
	}
	if f.budget != "" || f.yes || a.regtest() {
		return nil
	}
	return a.ask(sum, lim)
}

// ask asks a person for an amount (sat) that may be paid in all, which becomes the
// budget.
func (a *app) ask(sat uint64, lim *download.Limits) error {
	file, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return &failure{exit: exitConsent, code: "no-budget", message: fmt.Sprintf("this costs %d sat and no --budget was given", sat),
			money: noMoney, next: fmt.Sprintf("Give --budget %dsat if that is worth it to you.", sat)}
	}
	a.out.say("Pay up to %s? [y/N] ", money(sat*1000))
	line, err := bufio.NewReader(file).ReadString('\n')
	if err != nil || !strings.HasPrefix(strings.ToLower(strings.TrimSpace(line)), "y") {
		return &failure{exit: exitConsent, code: "declined", message: "not bought", money: noMoney, next: "Run the command again to buy it."}
	}
	lim.Budget = sat
	return nil
}

// at puts an item into a folder, under its base name there.
func (it item) at(dir, name string) (item, error) {
	path, err := filepath.Abs(filepath.Join(dir, filepath.FromSlash(name)))
	it.Dir, it.Path = dir, path
	return it, err
}

// parse reads a catalogue's file as an item of a folder.
func (f listed) item(w download.Want, url, rest string) (item, error) {
	if err := content.CheckName(f.Name); err != nil {
		return item{}, err
	}
	it := item{Want: w, size: f.Size, chunk: f.ChunkMsat, total: f.TotalMsat}
	it.URL = url
	return it.at(w.Dir, rest)
}

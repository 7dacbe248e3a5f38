package wallet

import "context"

// Scripts are the output scripts whose coins a look at the chain asks for: those
// that were handed out and 20 more of each chain. Errors: of the store and the keys.
func (w *Wallet) Scripts(ctx context.Context) (all [][]byte, err error) {
	for _, change := range []bool{false, true} {
		x, err := w.index(ctx, change)
		if err != nil {
			return nil, err
		}
		for i := range max(x.Next, x.Used) + gapLimit {
			s, err := w.slot(path{change, i})
			if err != nil {
				return nil, err
			}
			all = append(all, s.pkScript)
		}
	}
	return all, nil
}

package devnet

import "strings"

// reason is why the mempool refused a transaction: the short word that a bitcoind uses for the same refusal, where
// there is one, and btcd's own sentence in brackets. Without the word, btcd's sentence alone.
func reason(err error) string {
	for _, w := range []struct{ in, word string }{
		{"transaction is not finalized", "non-final"},
		{"sequence locks on inputs not met", "non-BIP68-final"},
		{"payment is dust", "dust"},
		{"unknown or fully-spent", "bad-txns-inputs-missingorspent"},
		{"due to low fees", "min relay fee not met"},
		{"under the required amount", "min relay fee not met"},
		{"insufficient fee rate", "insufficient fee"},
		{"insufficient absolute fee", "insufficient fee"},
		{"output already spent in mempool", "txn-mempool-conflict"},
		{"is not in the valid range", "version"},
		{"is too small", "tx-size-small"},
		{"before required maturity", "bad-txns-premature-spend-of-coinbase"},
		{"has a non-standard input", "bad-txns-nonstandard-inputs"}, // before the next: its sentence names the form too
		{"non-standard script form", "scriptpubkey"},
	} {
		if strings.Contains(err.Error(), w.in) {
			return w.word + " (" + err.Error() + ")"
		}
	}
	return err.Error()
}

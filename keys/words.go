package keys

import (
	"errors"
	"fmt"
	"strings"

	"github.com/tyler-smith/go-bip39"
)

// checkWords brings words into their one form, or says what is wrong with them:
// by place, never by repeating one. BIP39. Errors: ErrWords.
func checkWords(words string) (string, error) {
	list := strings.Fields(strings.ToLower(words))
	if n := len(list); n < 12 || n > 24 || n%3 != 0 {
		return "", fmt.Errorf("%w: there are %d of them, not 12, 15, 18, 21 or 24", ErrWords, n)
	}
	for i, word := range list {
		if _, ok := bip39.GetWordIndex(word); !ok {
			return "", fmt.Errorf("%w: word %d is not on the list", ErrWords, i+1)
		}
	}
	words = strings.Join(list, " ")
	if _, err := bip39.EntropyFromMnemonic(words); errors.Is(err, bip39.ErrChecksumIncorrect) {
		return "", fmt.Errorf("%w: the checksum is wrong, so one is mistaken or they are out of order", ErrWords)
	} else if err != nil {
		return "", ErrWords // the library's error could repeat them
	}
	return words, nil
}

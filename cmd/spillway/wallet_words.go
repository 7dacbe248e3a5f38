package main

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"math/big"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"
)

const (
	askedWords  = 3 // how many of the words have to be typed
	askAttempts = 3 // how often each may be wrong
)

// askWords makes somebody at a terminal prove that the words were written down:
// some of them, at places chosen by chance, have to be typed. A script, which has
// no terminal, is not asked.
func (a *app) askWords(words string) error {
	file, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return nil
	}
	in := bufio.NewReader(file)
	return confirmWords(strings.Fields(words), func(n int) (string, error) {
		a.out.say("Word number %d?", n)
		return in.ReadString('\n')
	})
}

// confirmWords asks for some of the words by their numbers from 1 on.
// Errors: *failure, of the answer and of the randomness.
func confirmWords(words []string, ask func(n int) (string, error)) error {
	places, err := somePlaces(len(words), askedWords)
	if err != nil {
		return err
	}
	for _, i := range places {
		if err := confirmWord(words[i], i+1, ask); err != nil {
			return err
		}
	}
	return nil
}

func confirmWord(word string, n int, ask func(n int) (string, error)) error {
	for range askAttempts {
		answer, err := ask(n)
		if strings.EqualFold(strings.TrimSpace(answer), word) {
			return nil
		}
		if err != nil {
			break
		}
	}
	return &failure{exit: exitConsent, code: "words-not-confirmed", message: fmt.Sprintf("word number %d was not typed as it was shown", n),
		money: "No wallet was made, and these words are worth nothing.", next: "Run the command again: it shows new words. Write them down first."}
}

// somePlaces chooses k different places below n, in rising order.
func somePlaces(n, k int) ([]int, error) {
	var places []int
	for len(places) < min(k, n) {
		i, err := rand.Int(rand.Reader, big.NewInt(int64(n)))
		if err != nil {
			return nil, err
		}
		if p := int(i.Int64()); !slices.Contains(places, p) {
			places = append(places, p)
		}
	}
	slices.Sort(places)
	return places, nil
}

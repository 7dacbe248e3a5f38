package mpp

import (
	"bufio"
	"encoding/json"
	"errors"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// crosschecked is testdata/crosschecked.json: what an independent implementation
// of the scheme made of the same input.
type crosschecked struct {
	Secret     string
	Challenges []struct{ Name, Header, ID, Credential string }
	JCS        []struct{ Input, Output string }
	Receipt    string
}

func loadCrosschecked(t testing.TB) (v crosschecked) {
	t.Helper()
	raw, err := os.ReadFile("testdata/crosschecked.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Challenges) < 9 || len(v.JCS) < 6 {
		t.Fatal("vectors are missing")
	}
	return v
}

func TestJCSCrosschecked(t *testing.T) {
	for i, v := range loadCrosschecked(t).JCS {
		got, err := JCS(json.RawMessage(v.Input))
		if err != nil {
			t.Errorf("%d: %v", i, err)
			continue
		}
		if string(got) != v.Output {
			t.Errorf("%d:\n got %s\nwant %s", i, got, v.Output)
		}
	}
}

// TestJCSRFC8785 has the examples of RFC 8785, sections 3.2.2 to 3.2.4.
func TestJCSRFC8785(t *testing.T) {
	in := `{
  "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
  "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
  "literals": [null, true, false]
}`
	want := `{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"` +
		"\u20ac" + `$\u000f\nA'B\"\\\\\"/"}`
	got, err := JCS(json.RawMessage(in))
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
	in = `{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One",
"\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}`
	got, err = JCS(json.RawMessage(in))
	if err != nil {
		t.Fatal(err)
	}
	at := -1
	for _, name := range []string{"Carriage", "One", "Control", "Latin", "Euro", "Emoji", "Hebrew"} {
		next := strings.Index(string(got), name)
		if next <= at {
			t.Errorf("%s is not where it belongs in %s", name, got)
		}
		at = next
	}
}

// TestDoublesRFC8785 is the table of RFC 8785, appendix B.
func TestDoublesRFC8785(t *testing.T) {
	table := map[uint64]string{
		0x0000000000000000: "0", 0x8000000000000000: "0", 0x0000000000000001: "5e-324", 0x8000000000000001: "-5e-324",
		0x7fefffffffffffff: "1.7976931348623157e+308", 0xffefffffffffffff: "-1.7976931348623157e+308",
		0x4340000000000000: "9007199254740992", 0xc340000000000000: "-9007199254740992",
		0x4430000000000000: "295147905179352830000", 0x44b52d02c7e14af5: "9.999999999999997e+22",
		0x44b52d02c7e14af6: "1e+23", 0x44b52d02c7e14af7: "1.0000000000000001e+23",
		0x444b1ae4d6e2ef4e: "999999999999999700000", 0x444b1ae4d6e2ef4f: "999999999999999900000",
		0x444b1ae4d6e2ef50: "1e+21", 0x3eb0c6f7a0b5ed8c: "9.999999999999997e-7", 0x3eb0c6f7a0b5ed8d: "0.000001",
		0x41b3de4355555553: "333333333.3333332", 0x41b3de4355555554: "333333333.33333325",
		0x41b3de4355555555: "333333333.3333333", 0x41b3de4355555556: "333333333.3333334",
		0x41b3de4355555557: "333333333.33333343", 0xbecbf647612f3696: "-0.0000033333333333333333",
		0x43143ff3c1cb0959: "1424953923781206.2",
	}
	for bits, want := range table {
		if got := string(appendDouble(nil, math.Float64frombits(bits))); got != want {
			t.Errorf("%016x: got %s, want %s", bits, got, want)
		}
	}
}

func TestDoublesCrosschecked(t *testing.T) {
	file, err := os.Open("testdata/doubles.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	n := 0
	for lines := bufio.NewScanner(file); lines.Scan(); {
		word, want, ok := strings.Cut(lines.Text(), " ")
		if !ok || word == "#" {
			continue
		}
		bits, err := strconv.ParseUint(word, 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(appendDouble(nil, math.Float64frombits(bits))); got != want {
			t.Errorf("%s: got %s, want %s", word, got, want)
		}
		n++
	}
	if n < 1000 {
		t.Errorf("only %d doubles", n)
	}
}

func TestJCSNumbers(t *testing.T) {
	for _, v := range []any{uint64(1)<<53 + 1, int64(math.MaxInt64), uint64(math.MaxUint64), json.RawMessage("9007199254740993"),
		json.RawMessage("-9007199254740993")} {
		if _, err := JCS(v); !errors.Is(err, ErrNumber) {
			t.Errorf("%v: %v", v, err)
		}
	}
	for _, v := range []any{math.NaN(), math.Inf(1), func() {}, json.RawMessage("1e999")} {
		if _, err := JCS(v); !errors.Is(err, ErrJSON) {
			t.Errorf("%v: %v", v, err)
		}
	}
	for in, want := range map[string]string{
		"-0": "0", "-0.0": "0", "0e5": "0", "1.0": "1", "10e-1": "1", "9007199254740992": "9007199254740992",
		"100000000000000000000000": "1e+23", "-1e21": "-1e+21", "999999999999999900000": "999999999999999900000",
	} {
		if got, err := JCS(json.RawMessage(in)); err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v", in, got, err)
		}
	}
}

// anyJSON draws JSON values.
func anyJSON(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		kind := rapid.IntRange(0, 6).Draw(t, "kind")
		if depth <= 0 {
			kind %= 5
		}
		switch kind {
		case 0:
			return nil
		case 1:
			return rapid.Bool().Draw(t, "bool")
		case 2, 3:
			return rapid.String().Draw(t, "string")
		case 4:
			f := rapid.Float64().Draw(t, "number")
			return json.Number(appendDouble(nil, f))
		case 5:
			return rapid.SliceOfN(anyJSON(depth-1), 0, 4).Draw(t, "list")
		}
		return rapid.MapOfN(rapid.String(), anyJSON(depth-1), 0, 4).Draw(t, "object")
	})
}

// TestJCSIsAFixedPoint: whatever the order and form of the input, its canonical
// form is one, reads back as the same value, and is its own canonical form.
func TestJCSIsAFixedPoint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyJSON(3).Draw(t, "value")
		once, err := JCS(v)
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(once) {
			t.Fatalf("not JSON: %q", once)
		}
		twice, err := JCS(json.RawMessage(once))
		if err != nil || string(twice) != string(once) {
			t.Fatalf("%q, then %q (%v)", once, twice, err)
		}
		loose, err := json.MarshalIndent(json.RawMessage(once), " ", "\t")
		if err != nil {
			t.Fatal(err)
		}
		if again, err := JCS(json.RawMessage(loose)); err != nil || string(again) != string(once) {
			t.Fatalf("%q, spaced out %q (%v)", once, again, err)
		}
	})
}

// TestParseJSONAgrees: what the strict reader takes, encoding/json takes too,
// and understands alike.
func TestParseJSONAgrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyJSON(3).Draw(t, "value")
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseJSON(raw)
		if err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		back, err := json.Marshal(got)
		if err != nil || string(back) != string(raw) {
			t.Fatalf("%q, then %q (%v)", raw, back, err)
		}
	})
}

func TestParseJSONDepth(t *testing.T) {
	nest := func(n int) []byte { return []byte(strings.Repeat("[", n) + strings.Repeat("]", n)) }
	if _, err := ParseJSON(nest(maxDepth + 1)); err != nil {
		t.Errorf("%d levels: %v", maxDepth+1, err)
	}
	if _, err := ParseJSON(nest(maxDepth + 2)); !errors.Is(err, ErrJSON) {
		t.Errorf("%d levels: %v", maxDepth+2, err)
	}
	if _, err := ParseJSON([]byte(strings.Repeat("[", 1<<20))); !errors.Is(err, ErrJSON) {
		t.Errorf("a million levels: %v", err)
	}
}

func TestBase64(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")
		s := EncodeBase64(b)
		got, err := DecodeBase64(s)
		if err != nil || string(got) != string(b) {
			t.Fatalf("%q: %x, %v", s, got, err)
		}
	})
	for _, s := range []string{"A", "AAAAA", "AA==", "AA=", "AB", "AAB", "AA\n", "\nAAAA", "AAAA\r\n", "+/+/", "A A", "AAAÄ", "AA.A"} {
		if b, err := DecodeBase64(s); !errors.Is(err, ErrBase64) {
			t.Errorf("%q: %x, %v", s, b, err)
		}
	}
}

// readBack is the canonical JSON of what encoding/json makes of a value.
func readBack(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return JCS(json.RawMessage(raw))
}

// What is written straight away is what reading it back would give.
func TestJCSPlain(t *testing.T) {
	type word string
	type object map[string]any
	rapid.Check(t, func(t *rapid.T) {
		v := map[string]any{
			"z":  object{"list": []string{rapid.String().Draw(t, "a"), string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))}, "": word("w")},
			"b":  []any{rapid.Int64().Draw(t, "i"), rapid.Uint32().Draw(t, "u"), rapid.Uint64().Draw(t, "long"), rapid.Bool().Draw(t, "flag")},
			"aa": []word{"x", word(rapid.String().Draw(t, "word"))}, rapid.String().Draw(t, "name"): uint8(7),
		}
		got, err := JCS(v)
		want, wantErr := readBack(v)
		if string(got) != string(want) || (err == nil) != (wantErr == nil) {
			t.Fatalf("%s, %v\nread back: %s, %v", got, err, want, wantErr)
		}
	})
	var none map[string]any
	deep := any("x")
	for range maxDepth + 1 {
		deep = []any{deep}
	}
	for _, v := range []any{
		nil, none, object(nil), []any(nil), []any{}, []byte("ab"), []string(nil), json.Number("1.0"), []json.Number{"1e1"}, word("<&>\u2028\x7f"), deep,
		map[string]any{"n": json.RawMessage(`{"b":1,"a":2.50}`)}, map[word]any{"k": 1}, map[int]any{1: 2}, struct{ A int }{3}, 1.5, new(string), int64(1)<<53 + 1,
	} {
		got, err := JCS(v)
		want, wantErr := readBack(v)
		if string(got) != string(want) || (err == nil) != (wantErr == nil) {
			t.Errorf("%#v: %s, %v\nread back: %s, %v", v, got, err, want, wantErr)
		}
	}
}

package mpp

import (
	"errors"
	"strings"
	"testing"
)

// with is a well-formed challenge header with one parameter replaced, or left
// out where value is "-".
func with(name, value string) string {
	parts := []string{}
	for _, p := range [][2]string{
		{"id", `"a"`}, {"realm", `"r"`}, {"method", `"m"`}, {"intent", `"i"`}, {"request", `"` + testRequest + `"`},
	} {
		if p[0] == name {
			if value == "-" {
				continue
			}
			p[1], name = value, ""
		}
		parts = append(parts, p[0]+"="+p[1])
	}
	if name != "" && value != "-" {
		parts = append(parts, name+"="+value)
	}
	return "Payment " + strings.Join(parts, ", ")
}

func encoded(text string) string { return `"` + EncodeBase64([]byte(text)) + `"` }

func TestBadChallenges(t *testing.T) {
	if _, err := ParseChallenges([]string{with("", "-")}); err != nil {
		t.Fatal("the base of these cases is not good:", err)
	}
	for name, e := range map[string]struct {
		header string
		want   error
	}{
		"nothing":              {"", ErrNoChallenge},
		"commas":               {" , ,,", ErrNoChallenge},
		"another scheme":       {`Basic realm="x"`, ErrNoChallenge},
		"no parameters":        {"Payment", ErrChallengeSyntax},
		"a token68":            {"Payment abc==", ErrChallengeSyntax},
		"no id":                {with("id", "-"), ErrChallengeSyntax},
		"empty id":             {with("id", `""`), ErrChallengeSyntax},
		"no realm":             {with("realm", "-"), ErrChallengeSyntax},
		"no method":            {with("method", "-"), ErrChallengeSyntax},
		"no intent":            {with("intent", "-"), ErrChallengeSyntax},
		"no request":           {with("request", "-"), ErrChallengeSyntax},
		"empty request":        {with("request", `""`), ErrChallengeSyntax},
		"upper method":         {with("method", "Bitcoin"), ErrChallengeSyntax},
		"method with space":    {with("method", `"bit coin"`), ErrChallengeSyntax},
		"intent with slash":    {with("intent", `"a/b"`), ErrChallengeSyntax},
		"realm with a bar":     {with("realm", `"a|b"`), ErrChallengeSyntax},
		"padded request":       {with("request", `"eyJhIjoxfQ=="`), ErrChallengeSyntax},
		"plain base64":         {with("request", `"+/+/"`), ErrChallengeSyntax},
		"stray bits":           {with("request", `"eyJhbW91bnQiOiIxIn1"`), ErrChallengeSyntax},
		"request not JSON":     {with("request", encoded("amount=1")), ErrChallengeSyntax},
		"request a list":       {with("request", encoded("[]")), ErrChallengeSyntax},
		"request cut":          {with("request", encoded(`{"a":`)), ErrChallengeSyntax},
		"request doubled":      {with("request", encoded(`{"a":1,"a":2}`)), ErrChallengeSyntax},
		"request not UTF-8":    {with("request", encoded("{\"a\":\"\xff\"}")), ErrChallengeSyntax},
		"request huge":         {with("request", encoded(`{"a":"`+strings.Repeat("x", MaxRequest)+`"}`)), ErrTooLarge},
		"opaque not flat":      {with("opaque", encoded(`{"a":{}}`)), ErrChallengeSyntax},
		"opaque a number":      {with("opaque", encoded(`{"a":1}`)), ErrChallengeSyntax},
		"opaque not base64":    {with("opaque", `"{}"`), ErrChallengeSyntax},
		"expires tomorrow":     {with("expires", `"tomorrow"`), ErrChallengeSyntax},
		"expires without T":    {with("expires", `"2026-01-02 03:04:05Z"`), ErrChallengeSyntax},
		"expires unix":         {with("expires", `"1767323045"`), ErrChallengeSyntax},
		"header Host":          {with("header", `"Host"`), ErrChallengeSyntax},
		"header Authorization": {with("header", `"Authorization"`), ErrChallengeSyntax},
		"repeated id":          {with("", "-") + `, id="b"`, ErrChallengeSyntax},
		"repeated, other case": {with("", "-") + `, ID="b"`, ErrChallengeSyntax},
		"unterminated":         {`Payment id="a`, ErrChallengeSyntax},
		"ends in backslash":    {`Payment id="a\`, ErrChallengeSyntax},
		"no value":             {`Payment id=, realm=r`, ErrChallengeSyntax},
		"two equals":           {`Payment id==a`, ErrChallengeSyntax},
		"no comma":             {`Payment id="a" realm="r"`, ErrChallengeSyntax},
		"text after quotes":    {`Payment id="a"b`, ErrChallengeSyntax},
		"line break":           {"Payment id=\"a\r\nSet-Cookie: x\"", ErrChallengeSyntax},
		"escaped line break":   {"Payment id=\"a\\\nb\"", ErrChallengeSyntax},
		"NUL":                  {"Payment id=\"a\x00\"", ErrChallengeSyntax},
		"starts with =":        {`="a"`, ErrChallengeSyntax},
		"parameter first":      {`id="a", Payment realm="r"`, ErrChallengeSyntax},
		"after a token68":      {`Payment abc, id="a"`, ErrChallengeSyntax},
		"quote as scheme":      {`"Payment" id=a`, ErrChallengeSyntax},
		"semicolons":           {`Payment id="a"; realm="r"`, ErrChallengeSyntax},
		"a kilobyte too many":  {"Payment " + strings.Repeat("x", MaxChallengeHeader), ErrTooLarge},
	} {
		if got, err := ParseChallenges([]string{e.header}); !errors.Is(err, e.want) || got != nil {
			t.Errorf("%s: %v, %v; want %v", name, got, err, e.want)
		}
	}
}

func TestBadJSON(t *testing.T) {
	for _, in := range []string{
		"", " ", "{", "}", "[", "[1", "[1,", "[1,]", "[,]", "{}}", "{}{}", "nul", "NULL", "True", "undefined", "NaN", "Infinity",
		"01", "-", "-a", "1.", ".5", "1e", "1e+", "+1", "0x10", "1e400", "-1e400", "1 2", `"`, `"a`, `"\`, `"\x"`, `"\u12"`, `"\u12g4"`,
		`"\ud800"`, `"\ud800x"`, `"\ud800\u0041"`, `"\udc00"`, `"\ud800\ud800"`, "\"\t\"", "\"\n\"", "\"\x00\"", "\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"",
		"\xef\xbb\xbf{}", `{a:1}`, `{'a':1}`, `{"a"}`, `{"a":}`, `{"a" 1}`, `{"a":1,}`, `{"a":1 "b":2}`, `{"a":1,"a":1}`, `{"a":1,"\u0061":2}`, `{1:2}`,
		"// x\n1", "1,", "\x0c1", "\u00a01",
	} {
		if v, err := ParseJSON([]byte(in)); !errors.Is(err, ErrJSON) {
			t.Errorf("%q: %v, %v", in, v, err)
		}
	}
	for _, in := range []string{"null", "1", `"a"`, "[]"} {
		if _, err := ParseObject([]byte(in)); !errors.Is(err, ErrJSON) {
			t.Errorf("%q is no object: %v", in, err)
		}
	}
}

// goodCredential is the JSON of a credential that is taken.
const goodCredential = `{"challenge":{"id":"a","intent":"i","method":"m","realm":"r","request":"e30"},"payload":{"action":"open"}}`

func credential(from, to string) string {
	if !strings.Contains(goodCredential, from) {
		panic(from)
	}
	return "Payment " + EncodeBase64([]byte(strings.Replace(goodCredential, from, to, 1)))
}

func TestBadCredentials(t *testing.T) {
	good := credential("", "")
	if _, err := ParseCredential([]string{good}); err != nil {
		t.Fatal("the base of these cases is not good:", err)
	}
	for name, e := range map[string]struct {
		header []string
		want   error
	}{
		"none":                  {nil, ErrNoCredential},
		"empty":                 {[]string{""}, ErrNoCredential},
		"blank":                 {[]string{" ", "\t"}, ErrNoCredential},
		"Basic":                 {[]string{"Basic dXNlcjpwYXNz"}, ErrNoCredential},
		"Bearer, odd":           {[]string{"Bearer a b c"}, ErrNoCredential},
		"Payments":              {[]string{"Payments " + good[8:]}, ErrNoCredential},
		"twice":                 {[]string{good, good}, ErrRepeated},
		"twice in one":          {[]string{good + ", " + good}, ErrRepeated},
		"with another line":     {[]string{"Bearer x", good}, ErrRepeated},
		"twice, once broken":    {[]string{good, "Payment ,,,"}, ErrRepeated},
		"scheme alone":          {[]string{"Payment"}, ErrMalformed},
		"scheme and space":      {[]string{"Payment "}, ErrMalformed},
		"parameters":            {[]string{`Payment id="a"`}, ErrMalformed},
		"two tokens":            {[]string{good + " x"}, ErrMalformed},
		"no space":              {[]string{"Payment:" + good[8:]}, ErrMalformed},
		"quoted":                {[]string{`Payment "` + good[8:] + `"`}, ErrMalformed},
		"padded":                {[]string{good + "="}, ErrMalformed},
		"plain base64":          {[]string{"Payment ey+/"}, ErrMalformed},
		"dots":                  {[]string{"Payment e30.e30"}, ErrMalformed},
		"stray bits":            {[]string{"Payment e31"}, ErrMalformed},
		"garbage":               {[]string{"Payment dGhpcyBpcyBnYXJiYWdl"}, ErrMalformed},
		"null":                  {[]string{"Payment bnVsbA"}, ErrMalformed},
		"list":                  {[]string{"Payment W10"}, ErrMalformed},
		"empty object":          {[]string{"Payment e30"}, ErrMalformed},
		"no challenge":          {[]string{credential(`"challenge"`, `"Challenge"`)}, ErrMalformed},
		"challenge a string":    {[]string{credential(`{"id":"a","intent":"i","method":"m","realm":"r","request":"e30"}`, `"a"`)}, ErrMalformed},
		"challenge null":        {[]string{credential(`{"id":"a","intent":"i","method":"m","realm":"r","request":"e30"}`, `null`)}, ErrMalformed},
		"no id":                 {[]string{credential(`"id":"a",`, ``)}, ErrMalformed},
		"empty id":              {[]string{credential(`"id":"a"`, `"id":""`)}, ErrMalformed},
		"id a number":           {[]string{credential(`"id":"a"`, `"id":1`)}, ErrMalformed},
		"id null":               {[]string{credential(`"id":"a"`, `"id":null`)}, ErrMalformed},
		"id in upper case":      {[]string{credential(`"id":"a"`, `"ID":"a"`)}, ErrMalformed},
		"realm a list":          {[]string{credential(`"realm":"r"`, `"realm":["r"]`)}, ErrMalformed},
		"request decoded":       {[]string{credential(`"request":"e30"`, `"request":{}`)}, ErrMalformed},
		"opaque decoded":        {[]string{credential(`"id":"a"`, `"id":"a","opaque":{"nonce":"0"}`)}, ErrMalformed},
		"expires a number":      {[]string{credential(`"id":"a"`, `"id":"a","expires":1767323045`)}, ErrMalformed},
		"description null":      {[]string{credential(`"id":"a"`, `"id":"a","description":null`)}, ErrMalformed},
		"no payload":            {[]string{credential(`"payload"`, `"payloads"`)}, ErrMalformed},
		"payload null":          {[]string{credential(`{"action":"open"}`, `null`)}, ErrMalformed},
		"payload a string":      {[]string{credential(`{"action":"open"}`, `"open"`)}, ErrMalformed},
		"payload a list":        {[]string{credential(`{"action":"open"}`, `[]`)}, ErrMalformed},
		"source an object":      {[]string{credential(`"payload"`, `"source":{},"payload"`)}, ErrMalformed},
		"doubled challenge":     {[]string{credential(`"payload"`, `"challenge":{},"payload"`)}, ErrMalformed},
		"doubled id":            {[]string{credential(`"id":"a"`, `"id":"a","id":"b"`)}, ErrMalformed},
		"doubled, escaped":      {[]string{credential(`"id":"a"`, `"id":"a","\u0069d":"b"`)}, ErrMalformed},
		"doubled action":        {[]string{credential(`"action":"open"`, `"action":"open","action":"close"`)}, ErrMalformed},
		"trailing":              {[]string{credential(`}}`, `}} x`)}, ErrMalformed},
		"not UTF-8":             {[]string{credential(`"r"`, "\"\xff\"")}, ErrMalformed},
		"lone surrogate":        {[]string{credential(`"r"`, `"\ud800"`)}, ErrMalformed},
		"too deep":              {[]string{credential(`"open"`, strings.Repeat("[", 100)+strings.Repeat("]", 100))}, ErrMalformed},
		"number beyond doubles": {[]string{credential(`"open"`, `1e999`)}, ErrMalformed},
	} {
		if got, err := ParseCredential(e.header); !errors.Is(err, e.want) {
			t.Errorf("%s: %+v, %v; want %v", name, got, err, e.want)
		}
	}
}

func TestBadReceipts(t *testing.T) {
	good := `{"method":"bitcoin","reference":"x","status":"success","timestamp":"2026-01-02T03:04:05Z"}`
	value := func(from, to string) []string {
		return []string{EncodeBase64([]byte(strings.Replace(good, from, to, 1)))}
	}
	if _, err := ParseReceipt(value("", "")); err != nil {
		t.Fatal("the base of these cases is not good:", err)
	}
	for name, e := range map[string]struct {
		header []string
		want   error
	}{
		"none":           {nil, ErrMalformed},
		"empty":          {[]string{""}, ErrMalformed},
		"two":            {append(value("", ""), value("", "")...), ErrRepeated},
		"huge":           {[]string{strings.Repeat("A", MaxReceipt+1)}, ErrTooLarge},
		"base64":         {[]string{"e30="}, ErrMalformed},
		"no method":      {value(`"method"`, `"m"`), ErrMalformed},
		"status failure": {value("success", "failure"), ErrMalformed},
		"status true":    {value(`"success"`, "true"), ErrMalformed},
		"no reference":   {value(`"x"`, `""`), ErrMalformed},
		"timestamp":      {value("T03", " 03"), ErrMalformed},
		"timestamp unix": {value(`"2026-01-02T03:04:05Z"`, "1767323045"), ErrMalformed},
	} {
		if got, err := ParseReceipt(e.header); !errors.Is(err, e.want) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, e.want)
		}
	}
}

// TestErrorsStayShort: no error repeats what a stranger sent at length.
func TestErrorsStayShort(t *testing.T) {
	long := strings.Repeat("x", 8000)
	for name, f := range map[string]func() error{
		"method":  func() error { _, err := ParseChallenges([]string{with("method", `"`+long+`!"`)}); return err },
		"intent":  func() error { _, err := ParseChallenges([]string{with("intent", `"`+long+`!"`)}); return err },
		"header":  func() error { _, err := ParseChallenges([]string{with("header", long)}); return err },
		"expires": func() error { _, err := ParseChallenges([]string{with("expires", long)}); return err },
		"opaque": func() error {
			_, err := ParseChallenges([]string{with("opaque", encoded(`{"`+long+`":1}`))})
			return err
		},
		"parameter": func() error {
			_, err := ParseChallenges([]string{"Payment " + long + "=1, " + long + "=1"})
			return err
		},
		"duplicate":  func() error { _, err := ParseJSON([]byte(`{"` + long + `":1,"` + long + `":1}`)); return err },
		"accept":     func() error { _, err := ParseAccept([]string{long[:4000]}); return err },
		"digest":     func() error { return CheckDigest(long, nil) },
		"credential": func() error { _, err := ParseCredential([]string{"Payment " + long + "="}); return err },
		"receipt": func() error {
			_, err := EncodeReceipt(map[string]string{"method": "m", "reference": "r", "status": long, "timestamp": long})
			return err
		},
	} {
		if err := f(); err == nil || len(err.Error()) > 400 {
			t.Errorf("%s: %.500v", name, err)
		}
	}
}

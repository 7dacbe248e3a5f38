package paywall

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/spillway/spillway/mpp/bitcoin"
)

// Where a service describes itself. draft-payment-discovery-00 section 4.1.
const (
	OpenAPIPath = "/openapi.json"
	LLMsPath    = "/llms.txt"
)

// maxOperations bounds what a description lists: it is read whole, by validators and
// by models.
const maxOperations = 1000

// ErrDiscovery: a description that would be no valid document.
var ErrDiscovery = errors.New("the service cannot be described")

// Discovery says what a service sells, for programs and models that look before they
// ask. It is advice: the challenge of the 402 is what counts.
// draft-payment-discovery-00.
type Discovery struct {
	Title      string   // of the service; must be set
	Version    string   // of its interface; default "1"
	Summary    string   // what it is, in a few sentences
	Network    string   // of the bitcoin network that is paid on
	Categories []string // such as "data", "media"; small letters
	Homepage   string   // URL or path; default "/"
	Reference  string   // URL or path of a description for people; "": none
	Operations []Operation
	More       int      // operations that are not listed
	Notes      []string // further lines for LLMsPath
}

// Operation is a request that the service answers.
type Operation struct {
	Method  string // default GET
	Path    string // escaped as in a URL, with {name} for what varies
	Summary string
	// Price is what an answer costs; the zero value is free. One that a function says is
	// not known before the request.
	Price Price
	// Params are what varies in Path, by name, each with an example.
	Params map[string]string
	// Query are the names of query parameters, with what they are for.
	Query map[string]string
	// Body is the JSON schema of the request's body; nil: it has none, or any.
	Body json.RawMessage
	// Kind is the media type of the answer; default application/octet-stream.
	Kind string
}

// OpenAPI is the description as an OpenAPI document with x-service-info and, for what
// costs, x-payment-info. Errors: ErrDiscovery.
func (d Discovery) OpenAPI() ([]byte, error) {
	if d.Title == "" {
		return nil, fmt.Errorf("%w: it has no title", ErrDiscovery)
	}
	paths := map[string]map[string]any{}
	for i, op := range d.Operations {
		if i == maxOperations {
			break
		}
		method := strings.ToLower(op.method())
		if !strings.HasPrefix(op.Path, "/") || paths[op.Path][method] != nil {
			return nil, fmt.Errorf("%w: %s %q is no path, or twice there", ErrDiscovery, op.method(), op.Path)
		}
		described, err := op.describe()
		if err != nil {
			return nil, err
		}
		if paths[op.Path] == nil {
			paths[op.Path] = map[string]any{}
		}
		paths[op.Path][method] = described
	}
	docs := map[string]any{"llms": LLMsPath, "homepage": orDefault(d.Homepage, "/")}
	if d.Reference != "" {
		docs["apiReference"] = d.Reference
	}
	service := map[string]any{"docs": docs}
	if len(d.Categories) > 0 {
		service["categories"] = d.Categories
	}
	info := map[string]any{"title": d.Title, "version": orDefault(d.Version, "1")}
	if d.Summary != "" {
		info["description"] = d.Summary
	}
	return json.Marshal(map[string]any{"openapi": "3.1.0", "info": info, "x-service-info": service, "paths": paths})
}

func orDefault(s, value string) string {
	if s == "" {
		return value
	}
	return s
}

func (op Operation) method() string { return orDefault(op.Method, http.MethodGet) }

// describe is an operation as OpenAPI has it.
func (op Operation) describe() (map[string]any, error) {
	responses := map[string]any{"200": map[string]any{
		"description": "The answer", "content": map[string]any{orDefault(op.Kind, "application/octet-stream"): map[string]any{}},
	}}
	out := map[string]any{"responses": responses}
	if op.Summary != "" {
		out["summary"] = op.Summary
	}
	var params []any
	for _, name := range pathNames(op.Path) {
		params = append(params, map[string]any{
			"name": name, "in": "path", "required": true, "schema": map[string]any{"type": "string"}, "example": op.Params[name],
		})
	}
	for _, name := range sortedKeys(op.Query) {
		params = append(params, map[string]any{"name": name, "in": "query", "description": op.Query[name], "schema": map[string]any{"type": "string"}})
	}
	if len(params) > 0 {
		out["parameters"] = params
	}
	switch {
	case len(op.Body) > 0 && !json.Valid(op.Body):
		return nil, fmt.Errorf("%w: the schema of %s %s is no JSON", ErrDiscovery, op.method(), op.Path)
	case len(op.Body) > 0:
		out["requestBody"] = map[string]any{"content": map[string]any{"application/json": map[string]any{"schema": op.Body}}}
	case op.method() == http.MethodPost || op.method() == http.MethodPut || op.method() == http.MethodPatch:
		out["requestBody"] = map[string]any{"content": map[string]any{"application/octet-stream": map[string]any{}}}
	}
	if offer := op.offer(); offer != nil {
		out["x-payment-info"] = map[string]any{"offers": []any{offer}}
		responses["402"] = map[string]any{
			"description": "Payment Required",
			"headers":     map[string]any{"WWW-Authenticate": map[string]any{"description": "A challenge of the Payment scheme, method bitcoin, intent session", "schema": map[string]any{"type": "string"}}},
			"content":     map[string]any{"application/problem+json": map[string]any{}},
		}
	}
	return out, nil
}

// offer is what an operation costs, as x-payment-info has it; nil: it is free.
// draft-payment-discovery-00 section 4.4.1.
func (op Operation) offer() map[string]any {
	out := map[string]any{
		"method": bitcoin.Method, "intent": bitcoin.Intent, "currency": bitcoin.Currency,
		"amount": nil, "unitType": orDefault(op.Price.Unit, bitcoin.UnitRequest), "description": op.words(),
	}
	if op.Price.varies() {
		return out
	}
	q := op.Price.of(nil).quote()
	if q.ChunkMsat == 0 {
		return nil
	}
	amount, units := q.price()
	out["amount"], out["unitsPerAmount"] = strconv.FormatUint(amount, 10), units
	return out
}

// varies reports whether the price is only known with the request.
func (p Price) varies() bool { return p.For != nil }

// words says what an operation costs, for people.
func (op Operation) words() string {
	if op.Price.varies() {
		return "what it costs depends on the request; the 402 says how much"
	}
	q := op.Price.of(nil).quote()
	if q.ChunkMsat == 0 {
		return "free"
	}
	q.Description = ""
	return q.unitWords()
}

// LLMs is the description as plain text, for language models and those who read it in
// a terminal. Errors: ErrDiscovery.
func (d Discovery) LLMs() ([]byte, error) {
	if d.Title == "" {
		return nil, fmt.Errorf("%w: it has no title", ErrDiscovery)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n", oneLine(d.Title))
	if d.Summary != "" {
		fmt.Fprintf(&b, "> %s\n\n", oneLine(d.Summary))
	}
	fmt.Fprintf(&b, "Paid over bitcoin payment channels")
	if d.Network != "" {
		fmt.Fprintf(&b, " (%s)", d.Network)
	}
	b.WriteString(payingText)
	for _, note := range d.Notes {
		fmt.Fprintf(&b, "- %s\n", oneLine(note))
	}
	b.WriteString("\n## Operations\n\n")
	listed := d.Operations[:min(len(d.Operations), maxOperations)]
	for _, op := range listed {
		fmt.Fprintf(&b, "- `%s %s`: %s", op.method(), op.Path, op.words())
		if op.Summary != "" {
			fmt.Fprintf(&b, ". %s", oneLine(op.Summary))
		}
		b.WriteString("\n")
	}
	if more := d.More + len(d.Operations) - len(listed); more > 0 {
		fmt.Fprintf(&b, "- and %d more that are not listed here\n", more)
	}
	fmt.Fprintf(&b, "\nThe same for programs: %s\n", OpenAPIPath)
	return []byte(b.String()), nil
}

const payingText = `: a deposit is locked in a channel of the client's own, each request is
paid with a signature, and what is not spent comes back, also when this server disappears.

## How to pay

- Ask without paying. The answer is 402 with ` + "`WWW-Authenticate: Payment … method=\"bitcoin\", intent=\"session\"`" + `, which says the price and the terms.
- With the program spillway: ` + "`spillway get URL`" + ` buys a file, ` + "`spillway credential --challenge … --url URL --max SAT`" + ` prints the value of Authorization for any other client.
- Send an Idempotency-Key of your own with each request: a repeat with the same key is never paid twice.
`

// Handler serves the description at OpenAPIPath and LLMsPath, free, and hands every other
// request on. Errors: ErrDiscovery.
func (d Discovery) Handler(next http.Handler) (http.Handler, error) {
	api, err := d.OpenAPI()
	if err != nil {
		return nil, err
	}
	text, err := d.LLMs()
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			next.ServeHTTP(w, r)
			return
		}
		switch r.URL.Path {
		case OpenAPIPath:
			ServeDiscovery(w, r, "application/json", api)
		case LLMsPath:
			ServeDiscovery(w, r, "text/plain; charset=utf-8", text)
		default:
			next.ServeHTTP(w, r)
		}
	}), nil
}

// ServeDiscovery writes one of the documents that a Discovery makes.
func ServeDiscovery(w http.ResponseWriter, r *http.Request, kind string, raw []byte) {
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Length", strconv.Itoa(len(raw)))
	if r.Method == http.MethodHead {
		return
	}
	if _, err := w.Write(raw); err != nil {
		return // the client is gone
	}
}

// pathNames are the names in braces of a path, in their order.
func pathNames(path string) (names []string) {
	for {
		_, rest, ok := strings.Cut(path, "{")
		if !ok {
			return names
		}
		name, after, ok := strings.Cut(rest, "}")
		if !ok {
			return names
		}
		names, path = append(names, strings.TrimSuffix(name, "...")), after
	}
}

func sortedKeys(m map[string]string) []string {
	return slices.Sorted(maps.Keys(m))
}

// oneLine is text without what could begin a line or a heading of its own.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

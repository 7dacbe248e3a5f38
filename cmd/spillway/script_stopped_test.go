package main

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/store/sqlite"
)

// cmdTamper: tamper payer|payee CHANNEL FIELD=JSON… changes fields of a stored record
// behind the program's back. Nothing else may use the folder meanwhile.
func cmdTamper(ts *testscript.TestScript, _ bool, args []string) {
	ctx := context.Background()
	found, err := filepath.Glob(filepath.Join(ts.Getenv("SPILLWAY_DATA"), args[0], "*", "spillway.db"))
	ts.Check(err)
	if len(found) != 1 {
		ts.Fatalf("%d stores of the %s", len(found), args[0])
	}
	s, err := sqlite.Open(ctx, found[0], sqlite.Options{})
	ts.Check(err)
	defer func() { ts.Check(s.Close()) }()
	bucket := args[0] + "/channel"
	e, err := s.Get(ctx, bucket, args[1])
	ts.Check(err)
	record := map[string]json.RawMessage{}
	ts.Check(json.Unmarshal(e.Value, &record))
	for _, change := range args[2:] {
		field, value, _ := strings.Cut(change, "=")
		record[field] = json.RawMessage(value)
	}
	raw, err := json.Marshal(record)
	ts.Check(err)
	ts.Check(s.Commit(ctx, store.Op{Bucket: bucket, Key: args[1], Value: raw, Expect: e.Revision}))
}

package settings

import (
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// find notes on which line each key stands. The text is TOML: it was parsed.
func (f *File) find() error {
	var p unstable.Parser
	p.Reset(f.raw)
	last := map[string]int{} // of each array of tables, which one it is at
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			path, line := f.keyPath(&p, e.Key(), "", last)
			if e.Kind == unstable.ArrayTable {
				if n, ok := last[path]; ok {
					last[path] = n + 1
				} else {
					last[path] = 0
				}
				forget(last, path)
				path += "[" + strconv.Itoa(last[path]) + "]"
			}
			table = path
			f.note(path, line)
		case unstable.KeyValue:
			f.pair(&p, e, table, last)
		}
	}
	if err := p.Error(); err != nil {
		return f.syntax(err, ErrSyntax)
	}
	return nil
}

// forget starts the arrays below one anew: each of its tables has its own.
func forget(last map[string]int, path string) {
	for below := range last {
		if strings.HasPrefix(below, path+"[") || strings.HasPrefix(below, path+".") {
			delete(last, below)
		}
	}
}

func (f *File) note(path string, line int) {
	if f.lines[path] == 0 {
		f.lines[path] = line
	}
}

// pair notes a key with its value, and the keys within that.
func (f *File) pair(p *unstable.Parser, e *unstable.Node, table string, last map[string]int) {
	path, line := f.keyPath(p, e.Key(), table, last)
	f.note(path, line)
	f.value(p, e.Value(), path, last)
}

func (f *File) value(p *unstable.Parser, v *unstable.Node, path string, last map[string]int) {
	switch v.Kind {
	case unstable.InlineTable:
		for it := v.Children(); it.Next(); {
			f.pair(p, it.Node(), path, last)
		}
	case unstable.Array:
		i := 0
		for it := v.Children(); it.Next(); i++ {
			f.value(p, it.Node(), path+"["+strconv.Itoa(i)+"]", last)
		}
	}
}

// keyPath is the path of a key below a table, and the line of its last part. A part
// that names an array of tables means the newest of them.
func (f *File) keyPath(p *unstable.Parser, it unstable.Iterator, table string, last map[string]int) (path string, line int) {
	path = table
	for it.Next() {
		n := it.Node()
		if n, ok := last[path]; ok && path != table {
			path += "[" + strconv.Itoa(n) + "]"
		}
		path = join(path, part(string(n.Data)))
		line = p.Shape(n.Raw).Start.Line
	}
	return path, line
}

// Server-sent events, cut out of a stream of bytes: each with its blank line, as it came.

const blank = /\r\n\r\n|\n\n|\r\r/

// splitEvents returns a function that takes text and gives the events that it completes,
// as [{name, data, raw}]; end() gives what is left.
export function splitEvents() {
  let rest = ''
  return {
    push(text) {
      rest += text
      const out = []
      for (;;) {
        const at = blank.exec(rest)
        if (!at) return out
        const end = at.index + at[0].length
        if (end === rest.length && at[0].endsWith('\r')) return out // its \n may follow
        out.push(parse(rest.slice(0, end)))
        rest = rest.slice(end)
      }
    },
    end: () => rest,
  }
}

function parse(raw) {
  let name = 'message'
  const data = []
  for (const line of raw.split(/\r\n|\n|\r/)) {
    const colon = line.indexOf(':')
    const field = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '')
    if (field === 'event') name = value
    if (field === 'data') data.push(value)
  }
  return { name, data: data.join('\n'), has: data.length > 0, raw }
}

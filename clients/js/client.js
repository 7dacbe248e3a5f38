// Pays with bitcoin channels for requests that mppx sends. The signer is the program
// `spillway`: it holds the keys, opens the channel, keeps the ledger, and never signs
// more than it was allowed to. This file only carries what it says.
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { Challenge, Constants, Credential, Method } from 'mppx'
import { priceMsat, session } from './method.js'
import { splitEvents } from './sse.js'

const { authorization, paymentAuthorization, paymentReceipt, wwwAuthenticate } = Constants.Headers
const idempotencyKey = 'Idempotency-Key'
const problems = 'https://paymentauth.org/problems/'

// SpillwayError is a refusal of the signer in its three parts: what happened (message),
// what it means for the money (money), and what to do next (next). Its code and exit
// are stable: docs/errors.md.
export class SpillwayError extends Error {
  name = 'SpillwayError'
  constructor({ code, exit, message, money, next }) {
    super(message)
    Object.assign(this, { code, exit, money, next })
  }
}

/**
 * spillway returns what Mppx.create needs to pay with bitcoin channels:
 *
 *   const pay = spillway({ max: 100, total: 10_000 })
 *   const mppx = Mppx.create({ methods: [pay.method], fetch: pay.fetch, polyfill: false })
 *
 * Options:
 *   max        most satoshi that one credential may add to what is signed (required)
 *   total      most satoshi that may be signed to one provider in all
 *   deposit    satoshi that are locked in a new channel
 *   maxAhead   units that a stream may be paid ahead of what has come (default 2)
 *   bin        the program (default "spillway"), args: its common flags, such as
 *              ["--network", "signet"], env: its environment
 *   fetch      what sends requests (default: the global one)
 *   raw        leave the events of the payment in a stream (default: they are taken out)
 *   log        is told what happens
 */
export function spillway(options) {
  if (!Number.isSafeInteger(options?.max) || options.max <= 0) throw new TypeError('max is a whole number of satoshi')
  const wallet = new Wallet(options)
  const method = Method.toClient(session, { createCredential: ({ challenge }) => wallet.credential(challenge) })
  return {
    method,
    fetch: (input, init) => wallet.fetch(input, init),
    close: (url) => wallet.close(url),
  }
}

class Wallet {
  #o
  #asked = new Map() // challenge id → { url, key }: what the challenge is for
  #queue = Promise.resolve() // the signer is asked one thing at a time
  #came = new Map() // channel → millisatoshi that the provider may have charged, as seen here

  constructor(options) {
    this.#o = { bin: 'spillway', args: [], maxAhead: 2, log: () => {}, ...options }
    this.#o.fetch ??= globalThis.fetch
  }

  // credential signs for a challenge. Where the request went through fetch its URL and
  // Idempotency-Key are known; else the credential carries the channel's opening.
  async credential(challenge) {
    const { url, key } = this.#asked.get(challenge.id) ?? {}
    return (await this.#sign(Challenge.serialize(challenge), { url, key })).authorization
  }

  async #sign(challenge, { url, key, require }) {
    const args = ['--challenge', '-', '--max', `${this.#o.max}sat`]
    if (url) args.push('--url', url)
    if (key) args.push('--key', key)
    if (require) args.push('--require', `${require}sat`)
    if (this.#o.total) args.push('--total', `${this.#o.total}sat`)
    if (this.#o.deposit) args.push('--deposit', `${this.#o.deposit}sat`)
    return this.#run(args, challenge)
  }

  // #run asks the program, after all that was asked before.
  #run(args, input = '') {
    const run = this.#queue.then(() => this.#spawn(args, input))
    this.#queue = run.catch(() => {})
    return run
  }

  #spawn(args, input) {
    const { bin, env, log } = this.#o
    return new Promise((resolve, reject) => {
      const child = spawn(bin, [...this.#o.args, 'credential', ...args, '--json'], { env: env ?? process.env, stdio: ['pipe', 'pipe', 'pipe'] })
      let out = ''
      child.stdout.setEncoding('utf8').on('data', (s) => (out += s))
      child.stderr.setEncoding('utf8').on('data', (s) => s.split('\n').filter(Boolean).forEach(log))
      child.on('error', reject)
      child.stdin.on('error', () => {}) // it ended before it read: its answer says why
      child.stdin.end(input)
      child.on('close', (exit) => {
        let last
        try {
          last = JSON.parse(out.trim().split('\n').at(-1))
        } catch {
          return reject(new SpillwayError({ code: 'no-answer', exit, message: `${bin} ended with ${exit} and said nothing` }))
        }
        if (last.type === 'result') resolve(last)
        else reject(new SpillwayError(last))
      })
    })
  }

  // fetch sends a request, and sees to what mppx does not: a key for every paid request,
  // a wait for confirmations, a channel that is gone, receipts, and streams that pause.
  async fetch(input, init = {}) {
    const url = String(input instanceof Request ? input.url : input)
    const headers = new Headers(init.headers ?? (input instanceof Request ? input.headers : undefined))
    const paid = credentialOf(headers)
    const sent = paid && this.#asked.get(paid.id)
    if (sent) headers.set(idempotencyKey, sent.key)
    for (let n = 0; ; n++) {
      const response = await this.#send(input, init, headers)
      if (response.status === 402) {
        if (paid && n < 60 && (await problemOf(response))?.type === `${problems}channel-unconfirmed`) {
          await pause(response, this.#o.log)
          continue
        }
        this.#remember(response, url, sent?.key ?? headers.get(idempotencyKey) ?? randomUUID())
        return response
      }
      if (paid && response.status === 410 && (await this.#gone(response))) {
        headers.delete(paid.field)
        return this.fetch(input, { ...init, headers })
      }
      const receipt = response.headers.get(paymentReceipt)
      if (!paid || !response.ok || !receipt) return response
      await this.#receipt(receipt, sent?.key)
      return this.#stream(response, { url, challenge: paid.challenge, field: paid.field, headers })
    }
  }

  #send(input, init, headers) {
    const body = input instanceof Request && input.body && init.body === undefined ? input.clone() : input
    return this.#o.fetch(body, { ...init, headers })
  }

  #remember(response, url, key) {
    for (const challenge of challengesOf(response)) {
      if (challenge.method !== 'bitcoin' || challenge.intent !== 'session') continue
      this.#asked.set(challenge.id, { url, key })
      if (this.#asked.size > 4096) this.#asked.delete(this.#asked.keys().next().value)
    }
  }

  // #gone gives a channel up that the provider takes nothing more on.
  async #gone(response) {
    const problem = await problemOf(response)
    const gone = [`${problems}session/channel-not-found`, `${problems}session/channel-finalized`]
    if (!gone.includes(problem?.type) || !problem.channelId) return false
    this.#o.log(`channel ${problem.channelId} is gone: another one is opened`)
    await this.#run(['--avoid', problem.channelId])
    return true
  }

  async #receipt(receipt, key) {
    const got = await this.#run(['--receipt', receipt, ...(key ? ['--key', key] : [])])
    this.#raise(got.channel_id, BigInt(got.charged_msat))
  }

  #raise(channel, msat) {
    const have = this.#came.get(channel) ?? 0n
    if (msat > have) this.#came.set(channel, msat)
  }

  // #stream pays for server-sent events while they come.
  #stream(response, about) {
    if (!response.body || !/^text\/event-stream\b/i.test(response.headers.get('content-type') ?? '')) return response
    const request = about.challenge.request
    const channel = JSON.parse(atob64(response.headers.get(paymentReceipt))).channelId
    const began = Date.now()
    const start = this.#came.get(channel) ?? 0n
    let units = 0n
    const decode = new TextDecoder()
    const encode = new TextEncoder()
    const cut = splitEvents()
    const count = (raw, event) => {
      if (request.unitType === 'byte') units += BigInt(encode.encode(raw).length)
      if (request.unitType === 'event' && event.has) units += 1n
      if (request.unitType === 'second') units = BigInt(Math.ceil((Date.now() - began) / 1000))
      this.#raise(channel, start + priceMsat(request, units))
    }
    const take = async (text, controller) => {
      for (const event of cut.push(text)) {
        if (event.name === 'payment-need-voucher') await this.#voucher(JSON.parse(event.data), about)
        else if (event.name === 'payment-receipt') await this.#rest(JSON.parse(event.data), about)
        else count(event.raw, event)
        if (this.#o.raw || !event.name.startsWith('payment-')) controller.enqueue(encode.encode(event.raw))
      }
    }
    const body = response.body.pipeThrough(
      new TransformStream({
        transform: (chunk, controller) => take(decode.decode(chunk, { stream: true }), controller),
        flush: async (controller) => {
          await take(decode.decode(), controller)
          if (cut.end()) controller.enqueue(encode.encode(cut.end()))
        },
      }),
    )
    return new Response(body, { status: response.status, statusText: response.statusText, headers: response.headers })
  }

  // #rest pays what of a stream was delivered on credit, once it is over.
  async #rest(receipt, about) {
    if (BigInt(receipt.requiredCumulative) > BigInt(receipt.acceptedCumulative)) await this.#voucher(receipt, about)
    else this.#raise(receipt.channelId, BigInt(receipt.chargedMsat))
  }

  // #voucher pays what a paused stream asks for, as far as that much has come, by a HEAD
  // on the same URL.
  async #voucher(need, about) {
    const request = about.challenge.request
    const ahead = priceMsat(request, request.unitType === 'byte' ? BigInt(request.methodDetails.unitsPerAmount ?? 1) : BigInt(this.#o.maxAhead))
    const most = (this.#came.get(need.channelId) ?? 0n) + ahead + 999n
    if (BigInt(need.requiredCumulative) * 1000n > most)
      throw new SpillwayError({ code: 'prepayment', exit: 3, message: `the stream wants ${need.requiredCumulative} sat in all, ${most / 1000n} sat are accounted for`,
        money: 'Nothing more was signed.', next: 'Raise maxAhead if you trust the provider with that much.' })
    const key = randomUUID()
    let challenge = about.challenge
    for (let n = 0; n < 3; n++) {
      if (n > 0 || Date.parse(challenge.expires) < Date.now() + 5000) challenge = (await this.#fresh(about)) ?? challenge
      const signed = await this.#sign(Challenge.serialize(challenge), { url: about.url, key, require: need.requiredCumulative })
      const headers = new Headers({ [signed.header]: signed.authorization, [idempotencyKey]: key })
      const response = await this.#o.fetch(about.url, { method: 'HEAD', headers })
      const receipt = response.headers.get(paymentReceipt)
      if (response.ok && receipt) return this.#receipt(receipt, key)
    }
    throw new SpillwayError({ code: 'refused', exit: 9, message: 'the provider of a stream takes no voucher' })
  }

  // #fresh is a challenge of the same resource that has just begun.
  async #fresh(about) {
    const headers = new Headers(about.headers)
    headers.delete(about.field)
    headers.delete(idempotencyKey)
    const response = await this.#o.fetch(about.url, { method: 'HEAD', headers })
    return challengesOf(response).find((c) => c.method === 'bitcoin' && c.intent === 'session')
  }

  // close closes the channels with a provider: what was not spent comes back.
  async close(url) {
    return (await this.#run(['--close', '--url', String(url), '--max', `${this.#o.max}sat`])).closed
  }
}

function challengesOf(response) {
  if (response.status !== 402 || !response.headers.get(wwwAuthenticate)) return []
  try {
    return Challenge.fromResponseList(response)
  } catch {
    return []
  }
}

// credentialOf is the challenge that a request's credential answers, with its field.
function credentialOf(headers) {
  for (const field of [authorization, paymentAuthorization]) {
    const scheme = headers.get(field) && Credential.extractPaymentScheme(headers.get(field))
    if (!scheme) continue
    const { challenge } = Credential.deserialize(scheme)
    if (challenge.method === 'bitcoin' && challenge.intent === 'session') return { id: challenge.id, challenge, field }
  }
}

async function problemOf(response) {
  try {
    return await response.clone().json()
  } catch {
    return undefined
  }
}

async function pause(response, log) {
  const seconds = Math.min(Math.max(Number(response.headers.get('Retry-After')) || 1, 1), 60)
  log(`the channel is not confirmed yet: ${seconds} s`)
  await response.body?.cancel()
  await new Promise((done) => setTimeout(done, seconds * 1000))
}

const atob64 = (text) => Buffer.from(text, 'base64url').toString('utf8')

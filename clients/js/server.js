// Sells for bitcoin channels behind an mppx server. mppx makes the challenges and speaks
// HTTP; the program `spillway verifier`, beside it, is the payee: it holds the keys, says
// what goes into a challenge, and verifies, charges and saves what a credential pays
// before it says yes.
import { AsyncLocalStorage } from 'node:async_hooks'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Challenge, Constants, Credential, Errors, Method, PaymentRequest } from 'mppx'
import { session } from './method.js'

const { authorization, wwwAuthenticate } = Constants.Headers

// Refused is a refusal of the payee's, in its own words: its problem and its status.
class Refused extends Errors.PaymentError {
  name = 'Refused'
  constructor({ body, status }) {
    super(body?.detail ?? 'The payment was refused.')
    this.problem = body ?? { type: 'about:blank', title: 'Payment Required', status }
    this.type = this.problem.type
    this.title = this.problem.title
    this.status = status
  }
  toProblemDetails() {
    return this.problem
  }
}

/**
 * spillway is what an mppx server needs to sell for bitcoin channels:
 *
 *   const till = spillway({ file: '…/payee/mainnet/verifier.json' })
 *   const mppx = Mppx.create({ methods: [till.method], secretKey: till.secretKey, realm: till.realm })
 *   const charge = till.charge(mppx, { priceMsat: 1000, description: 'An answer' })
 *
 *   const paid = await charge(request)            // a fetch Request
 *   if (paid.status !== 200) return paid.challenge
 *   if (paid.alone) return paid.withReceipt()     // a payment that asks for nothing: its own answer
 *   return paid.withReceipt(Response.json({ … }))
 *
 * Options: file (what the verifier wrote), or its fields url, token, realm and secretKey.
 */
export function spillway({ file, ...given }) {
  const about = { ...(file ? JSON.parse(readFileSync(file, 'utf8')) : {}), ...given }
  const visits = new AsyncLocalStorage() // the request that is being paid

  async function ask(path, body) {
    const response = await fetch(about.url + path, {
      method: 'POST',
      headers: { authorization: `Bearer ${about.token}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
    const answer = await response.json()
    if (!response.ok) throw new Error(`spillway verifier: ${response.status} ${answer.detail}`)
    return answer
  }

  const method = Method.toServer(session, {
    // verify has the payee look at a credential. What comes back is charged and saved.
    async verify({ envelope }) {
      const visit = visits.getStore()
      const { headers, method, url } = envelope.capturedRequest
      visit.answer = await ask('/v1/verify', {
        priceMsat: visit.priceMsat, description: visit.description, method, url: url.pathname + url.search,
        credential: Credential.extractPaymentScheme(headers.get(authorization)),
        idempotencyKey: headers.get('idempotency-key') ?? '', range: headers.get('range') ?? '', bodyDigest: visit.body,
      })
      if (!visit.answer.receipt) throw new Refused(visit.answer)
      return visit.answer.receipt
    },
    // respond answers a payment that came alone: the handler has nothing to do with it.
    respond() {
      const { answer } = visits.getStore()
      if (!answer.serve) return answered(answer)
    },
  })

  // terms are what a handler of this request offers: a fresh offer, or, where the request
  // pays already, the one that it echoes, which the payee holds against the price.
  async function terms(request, visit) {
    const echoed = paid(request)
    if (echoed)
      return { ...echoed.request, meta: echoed.opaque && PaymentRequest.deserialize(echoed.opaque), expires: echoed.expires, description: visit.description }
    const offer = await ask('/v1/challenge', { priceMsat: visit.priceMsat, description: visit.description })
    return { ...offer.request, meta: offer.opaque, expires: offer.expires, description: visit.description }
  }

  function charge(mppx, { priceMsat, description = '' }) {
    return async (request) => {
      const visit = { priceMsat: Number(typeof priceMsat === 'function' ? await priceMsat(request) : priceMsat), description, body: await digest(request) }
      return visits.run(visit, async () => {
        const handler = mppx['bitcoin/session']
        const result = await handler(await terms(request, visit))(request)
        if (result.status !== 402) return { ...result, alone: visit.answer !== undefined && !visit.answer.serve }
        return { ...result, challenge: await refused(mppx, request, result.challenge, visit) }
      })
    }
  }

  // refused is a refusal with a fresh challenge, and with what else the payee says of it.
  async function refused(mppx, request, response, visit) {
    if (!paid(request)) return response
    const headers = new Headers(response.headers)
    const retry = visit.answer?.headers['Retry-After']
    if (retry) headers.set('Retry-After', retry)
    if (response.status === 402) {
      const fresh = await mppx.challenge.bitcoin.session(await terms(new Request(request.url), visit))
      headers.set(wwwAuthenticate, Challenge.serialize(fresh))
    } else headers.delete(wwwAuthenticate)
    return new Response(response.body, { status: response.status, headers })
  }

  return { method, charge, realm: about.realm, secretKey: about.secretKey, provider: about.provider, network: about.network }
}

function answered({ status, headers, body }) {
  const none = status === 204 || body === undefined
  return new Response(none ? null : JSON.stringify(body), { status, headers })
}

// paid is the challenge that a request's credential of our method answers.
function paid(request) {
  try {
    const { challenge } = Credential.deserialize(Credential.extractPaymentScheme(request.headers.get(authorization)))
    if (challenge.method === 'bitcoin' && challenge.intent === 'session') return challenge
  } catch {
    // mppx says what is wrong with it
  }
}

// digest names a request's body for the payee; '' for none, as a payment that comes alone
// has.
async function digest(request) {
  if (request.body === null || request.headers.get('content-length') === '0') return ''
  const bytes = new Uint8Array(await request.clone().arrayBuffer())
  return createHash('sha256').update(bytes).digest('hex')
}

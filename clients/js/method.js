// The payment method `bitcoin`, intent `session`, as mppx describes methods: what a
// challenge's request and a credential's payload look like. The rules are in
// docs/method-bitcoin-session.md; what matters is checked by the spillway program.
import { Method, z } from 'mppx'

const sat = z.string().check(z.regex(/^[1-9][0-9]*$/, 'satoshi, without sign or leading zeros'))

export const session = Method.from({
  name: 'bitcoin',
  intent: 'session',
  schema: {
    // Unknown members stay as they came: the credential echoes the request unchanged.
    request: z.looseObject({
      amount: sat,
      currency: z.literal('sat'),
      recipient: z.string().check(z.regex(/^[0-9a-f]{64}$/, 'an Ed25519 key in hex')),
      unitType: z.string(),
      description: z.optional(z.string()),
      methodDetails: z.looseObject({
        network: z.string(),
        payeePubKey: z.string().check(z.regex(/^0[23][0-9a-f]{64}$/, 'a compressed key in hex')),
        channelTypes: z.array(z.string()),
      }),
    }),
    credential: {
      payload: z.looseObject({
        action: z.enum(['prepare', 'open', 'voucher', 'resume', 'close', 'topUp']),
        mac: z.string().check(z.regex(/^[0-9a-f]{64}$/, 'an HMAC-SHA256 in hex')),
      }),
    },
  },
})

// priceMsat is what so many units of a request cost, in millisatoshi, rounded up.
export function priceMsat(request, units) {
  const per = BigInt(request.methodDetails.unitsPerAmount ?? 1)
  return (BigInt(units) * BigInt(request.amount) * 1000n + per - 1n) / per
}

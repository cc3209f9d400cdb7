// Verifies an X-Risk-Assertion with jose. Arguments: URL of the key set, issuer, audience, assertion.

import * as jose from 'jose';

const [url, issuer, audience, assertion] = process.argv.slice(2);
// Kept for some minutes by itself, and fetched again for a key that is not in it.
const keys = jose.createRemoteJWKSet(new URL(url));
try {
  const { payload } = await jose.jwtVerify(assertion, keys, {
    typ: 'risk-assertion+jwt',
    algorithms: ['ES256', 'RS256', 'EdDSA'],
    issuer,
    audience,
    requiredClaims: ['sub', 'exp', 'iat', 'jti'],
    clockTolerance: 5,
  });
  console.log(JSON.stringify(payload));
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}

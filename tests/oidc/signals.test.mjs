// What docs/SIGNALS.md shows a receiver of shared signals: PyJWT takes a token as riskgate signs them, and refuses others.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import path from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';

import * as jose from 'jose';

import { REPOSITORY } from './gateway.mjs';

const RUN_WITHIN_MS = 60_000;
const ISSUER = 'https://sso.example.com';
const AUDIENCE = 'https://orders.example.com';

const run = promisify(execFile);

/** The lines of the page, with the address of the keys and the token that a receiver has by then. */
async function receiver(keys) {
  const page = await readFile(path.join(REPOSITORY, 'docs/SIGNALS.md'), 'utf8');
  const [, lines] = page.match(/```python\n(.*?)```/s);
  const shown = `"${ISSUER}/riskgate/jwks.json"`;
  assert.ok(lines.includes(shown), lines);
  return `import jwt\nimport sys\ntoken = sys.argv[1]\n${lines.replace(shown, `"${keys}"`)}\nprint(event["jti"])\n`;
}

test('a receiver with PyJWT takes what riskgate signs and nothing else', { timeout: 120_000 }, async () => {
  const { publicKey, privateKey } = await jose.generateKeyPair('ES256');
  const stranger = await jose.generateKeyPair('ES256');
  const jwk = { ...await jose.exportJWK(publicKey), alg: 'ES256', kid: 'k1', use: 'sig' };
  const set = JSON.stringify({ keys: [jwk] });
  const server = http.createServer((request, response) => {
    response.writeHead(200, { 'content-type': 'application/jwk-set+json' });
    response.end(set);
  });
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  try {
    const script = await receiver(`http://127.0.0.1:${server.address().port}/riskgate/jwks.json`);
    const take = ({ typ = 'secevent+jwt', claims = {}, key = privateKey } = {}) => {
      const now = Math.floor(Date.now() / 1000);
      const all = {
        iss: ISSUER, aud: AUDIENCE, jti: '5b0e', iat: now, ...claims,
      };
      const token = new jose.SignJWT(all).setProtectedHeader({ alg: 'ES256', kid: 'k1', typ }).sign(key);
      return token.then((text) => run(process.env.AUTHLIB_PYTHON, ['-c', script, text], {
        env: { ...process.env, NO_PROXY: '*' }, timeout: RUN_WITHIN_MS,
      }));
    };
    assert.equal((await take()).stdout, '5b0e\n');
    await assert.rejects(take({ typ: 'at+jwt' }), /another kind of token/);
    await assert.rejects(take({ claims: { aud: 'https://another.example.com' } }), /InvalidAudienceError/);
    await assert.rejects(take({ claims: { iss: 'https://another.example.com' } }), /InvalidIssuerError/);
    await assert.rejects(take({ claims: { jti: undefined } }), /MissingRequiredClaimError/);
    await assert.rejects(take({ key: stranger.privateKey }), /InvalidSignatureError/);
  } finally {
    server.close();
    server.closeAllConnections();
  }
});

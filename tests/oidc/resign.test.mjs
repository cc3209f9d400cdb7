// Tokens signed anew by riskgate in front of a certified provider: every library takes them, and so does the provider.
//
// The provider issues access tokens as signed JWTs that its own endpoints take, as WSO2 does. All flows of the other suite
// run as well; their assertions are the provider's answers.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import path from 'node:path';
import {
  after, before, describe, test,
} from 'node:test';
import { promisify } from 'node:util';

import * as jose from 'jose';
import * as oauth from 'oauth4webapi';
import * as openid from 'openid-client';

import { FLOWS, Party, portalTokens } from './flows.mjs';
import { REPOSITORY, freePort, startGateway } from './gateway.mjs';
import { ACCOUNT, providerHandler } from './provider.mjs';
import { recordingServer } from './recording.mjs';

const TEST_WITHIN_MS = 120_000;

const ALLOW_ALL = `
version = 1

[[rule]]
name = "allow-all"
when = "true"
verdict = "allow"
`;

function halfHash(text) {
  return createHash('sha256').update(text).digest().subarray(0, 16).toString('base64url');
}

for (const algorithm of [undefined, 'ES256', 'EdDSA']) {
  describe(`access tokens signed anew with ${algorithm ?? 'their own algorithm'}`, () => {
    let publicPort;
    let origin;
    let server;
    let gateway;

    before(async () => {
      publicPort = await freePort();
      origin = `http://localhost:${publicPort}`;
      const upstreamPort = await freePort();
      server = await recordingServer(upstreamPort);
      server.serve(providerHandler(origin, { jwtTokens: true }));
      const more = algorithm === undefined ? '' : `access_token_algorithm = "${algorithm}"\n`;
      gateway = await startGateway({
        port: publicPort,
        upstream: `http://127.0.0.1:${upstreamPort}`,
        mode: 'enforce',
        policy: ALLOW_ALL,
        config: `[signing]\nresign_tokens = true\n${more}`,
      });
    });
    after(async () => {
      try {
        await gateway?.stop();
      } finally {
        await server?.close();
      }
    });

    /** Gives a fresh provider and a party to `play`. */
    async function withParty(play) {
      server.serve(providerHandler(origin, { jwtTokens: true }));
      const party = new Party(origin);
      try {
        return await play(party);
      } finally {
        party.close();
      }
    }

    /** What all libraries say of both tokens. */
    async function assertValid(party, config, tokens) {
      const issuer = `${origin}/oauth2/token`;
      const { jwks_uri: keys } = config.serverMetadata();
      const remote = jose.createRemoteJWKSet(new URL(keys));
      const access = await jose.jwtVerify(tokens.access_token, remote, { issuer, audience: 'portal', typ: 'at+jwt' });
      const identity = await jose.jwtVerify(tokens.id_token, remote, { issuer, audience: 'portal' });
      assert.equal(access.protectedHeader.alg, algorithm ?? 'RS256');
      assert.equal(identity.protectedHeader.alg, 'RS256');
      const own = await (await fetch(`${origin}/riskgate/jwks.json`)).json();
      for (const { protectedHeader } of [access, identity]) {
        assert.ok(own.keys.some(({ kid }) => kid === protectedHeader.kid), 'signed by riskgate');
        assert.equal(protectedHeader.x5t, undefined);
      }
      assert.equal(access.payload.risk_status, 'scored');
      assert.ok(Number.isInteger(access.payload.risk_score));
      assert.equal(identity.payload.at_hash, halfHash(tokens.access_token));

      const request = new Request('https://api.example.com/orders', { headers: { authorization: `Bearer ${tokens.access_token}` } });
      const server_ = { issuer, jwks_uri: keys };
      const claims = await oauth.validateJwtAccessToken(server_, request, 'portal', { [oauth.allowInsecureRequests]: true });
      assert.equal(claims.risk_status, 'scored');

      const python = process.env.AUTHLIB_PYTHON;
      assert.ok(python, 'AUTHLIB_PYTHON is not set: run scripts/test-node.sh');
      for (const token of [tokens.access_token, tokens.id_token]) {
        const { stdout } = await promisify(execFile)(python, [
          path.join(REPOSITORY, 'tests/oidc/pyjwt_verify.py'), keys, issuer, 'portal', token,
        ], { timeout: TEST_WITHIN_MS });
        assert.equal(JSON.parse(stdout).sub, ACCOUNT.sub);
      }
    }

    test('every library takes them, after a refresh as well', { timeout: TEST_WITHIN_MS }, () => withParty(async (party) => {
      // openid-client verifies the ID token with the key set, because the flow asks it to.
      const { config, tokens } = await portalTokens(party, { verified: true });
      await assertValid(party, config, tokens);
      const second = await openid.refreshTokenGrant(config, tokens.refresh_token);
      assert.equal(second.claims().sub, ACCOUNT.sub);
      await assertValid(party, config, second);
      const claims = await openid.fetchUserInfo(config, second.access_token, ACCOUNT.sub);
      assert.equal(claims.email, 'alice@example.com');
    }));

    test('the provider sees its own tokens alone', { timeout: TEST_WITHIN_MS }, async () => {
      let returned = [];
      for (const name of ['code with PKCE, userinfo by GET and POST', 'introspection and revocation', 'logout page']) {
        const recording = await withParty(async (party) => {
          await FLOWS[name](party);
          return server.last;
        });
        const arrived = [...recording.exchanges.values()].map(({ request }) => [request.target, ...request.headers.flat(), request.body.toString()]);
        returned = returned.concat(arrived.flat().join('\n').match(/eyJ[\w-]+\.[\w-]+\.[\w-]+/g) ?? []);
      }
      // Userinfo by GET and by POST and once more, two introspections, a revocation, a logout.
      assert.equal(returned.length, 7);
      for (const token of returned) {
        assert.equal(jose.decodeProtectedHeader(token).kid, 'provider_RS256');
      }
    });

    for (const [name, flow] of Object.entries(FLOWS)) {
      // The key set is another one here.
      if (name !== 'discovery and key set') {
        test(name, { timeout: TEST_WITHIN_MS }, () => withParty(flow));
      }
    }
  });
}

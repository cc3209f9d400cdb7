// Step-up in front of a certified provider: the factor is given and proven, or the tokens do not get out.
//
// The policy steps up every authorization of `portal` and none of `mobile` and `shop` unless a test says so. The provider
// honours `acr_values` in one half of the tests and ignores it in the other, as an application without a script does.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import path from 'node:path';
import {
  after, afterEach, before, beforeEach, describe, test,
} from 'node:test';
import { promisify } from 'node:util';

import * as oauth from 'oauth4webapi';
import * as openid from 'openid-client';

import { Party } from './flows.mjs';
import { REPOSITORY, freePort, startGateway } from './gateway.mjs';
import {
  ACCOUNT, CODE, MFA, clientSecret, providerHandler, redirectUri,
} from './provider.mjs';
import { recordingServer } from './recording.mjs';

const TEST_WITHIN_MS = 120_000;
const STATE = 'state-of-the-step-up-tests';
const NONCE = 'nonce-of-the-step-up-tests';
const VERIFIER = 'verifier-of-43-characters-or-more-as-RFC-7636-asks';

const POLICY = `
version = 1

[[rule]]
name = "portal-needs-two-factors"
when = 'request.door == "authorize" && client.id == "portal"'
verdict = "step_up"

[[rule]]
name = "the-rest-is-allowed"
when = "true"
verdict = "allow"
`;

const publicPort = await freePort();
const origin = `http://localhost:${publicPort}`;

let upstream;
let gateway;

async function start({ secondFactor, config = '' }) {
  const upstreamPort = await freePort();
  upstream = await recordingServer(upstreamPort);
  serve(secondFactor);
  gateway = await startGateway({
    port: publicPort, upstream: `http://127.0.0.1:${upstreamPort}`, mode: 'enforce', policy: POLICY, config,
  });
}

function serve(secondFactor) {
  return upstream.serve(providerHandler(origin, { secondFactor }));
}

async function stop() {
  try {
    await gateway?.stop();
  } finally {
    await upstream?.close();
    gateway = undefined;
    upstream = undefined;
  }
}

async function parameters(clientId, more = {}) {
  return {
    redirect_uri: redirectUri(clientId),
    scope: 'openid',
    code_challenge: await openid.calculatePKCECodeChallenge(VERIFIER),
    code_challenge_method: 'S256',
    state: STATE,
    nonce: NONCE,
    ...more,
  };
}

async function client(party, clientId) {
  if (clientId !== 'shop') return party.client(clientId);
  return openid.discovery(
    new URL(`${origin}/oauth2/token`),
    clientId,
    undefined,
    openid.ClientSecretPost(clientSecret(clientId)),
    { execute: [openid.allowInsecureRequests], [openid.customFetch]: party.recorder.fetch },
  );
}

/** Opens the authorization and does what each page asks for; gives where it ended and the pages that were seen. */
async function signIn(party, config, clientId, more) {
  const url = openid.buildAuthorizationUrl(config, await parameters(clientId, more));
  const pages = [];
  let at = await party.userAgent.open(url);
  for (let step = 0; step < 6 && at.left === undefined; step += 1) {
    const page = at.url.pathname.split('/').at(-1);
    pages.push(page);
    if (page === 'login.do') {
      at = await party.userAgent.submit(at, { username: ACCOUNT.username, password: ACCOUNT.password });
    } else if (page === 'totp.do') {
      at = await party.userAgent.submit(at, { token: CODE });
    } else if (page === 'oauth2_consent.do') {
      at = await party.userAgent.submit(at);
    } else {
      break;
    }
  }
  return { ...at, pages };
}

const redeem = (config, callback) => openid.authorizationCodeGrant(config, callback, {
  pkceCodeVerifier: VERIFIER, expectedState: STATE, expectedNonce: NONCE, idTokenExpected: true,
});

async function withParty(act) {
  const party = new Party(origin);
  try {
    await act(party);
  } finally {
    party.close();
  }
}

/** The tokens that the provider issued last, whatever became of them. */
function lastIssued() {
  const answers = [...upstream.last.exchanges.values(), ...upstream.last.others]
    .filter(({ request }) => request.target === '/oauth2/token')
    .map(({ response }) => response.body.toString('utf8'))
    .filter((body) => body.includes('access_token'));
  assert.ok(answers.length > 0, 'the provider issued no tokens');
  return JSON.parse(answers.at(-1));
}

/** Whether the provider itself, asked directly, holds a token for active. */
async function isActive(token) {
  const { port } = upstream;
  const answer = await fetch(`http://127.0.0.1:${port}/oauth2/introspect`, {
    method: 'POST',
    body: new URLSearchParams({ token, client_id: 'backoffice', client_secret: clientSecret('backoffice') }),
  });
  return (await answer.json()).active;
}

describe('a provider that asks for the second factor', () => {
  before(() => start({ secondFactor: true }));
  after(stop);

  test('a safe login has no further step', { timeout: TEST_WITHIN_MS }, () => withParty(async (party) => {
    const config = await client(party, 'shop');
    const { left, pages } = await signIn(party, config, 'shop');
    assert.deepEqual(pages, ['login.do', 'oauth2_consent.do']);
    const tokens = await redeem(config, left);
    assert.equal(tokens.claims().acr, undefined);
  }));

  test('a risky login ends with the class that was asked for', { timeout: TEST_WITHIN_MS }, () => withParty(async (party) => {
    const config = await client(party, 'portal');
    const { left, pages } = await signIn(party, config, 'portal');
    assert.deepEqual(pages, ['login.do', 'totp.do', 'oauth2_consent.do']);
    const tokens = await redeem(config, left);
    const claims = tokens.claims();
    assert.equal(claims.acr, MFA);
    assert.ok(Number.isInteger(claims.auth_time), JSON.stringify(claims));
    assert.equal(await isActive(tokens.access_token), true);
  }));

  test('a wrong code is asked for again and gives nothing', { timeout: TEST_WITHIN_MS }, () => withParty(async (party) => {
    const config = await client(party, 'portal');
    const loginPage = await party.userAgent.open(openid.buildAuthorizationUrl(config, await parameters('portal')));
    const codePage = await party.userAgent.submit(loginPage, { username: ACCOUNT.username, password: ACCOUNT.password });
    const again = await party.userAgent.submit(codePage, { token: '000000' });
    assert.equal(again.url.pathname, '/authenticationendpoint/totp.do');
    assert.equal(again.url.searchParams.get('authFailure'), 'true');
  }));

  test('one code in fifty hands at once is redeemed once', { timeout: TEST_WITHIN_MS }, () => withParty(async (party) => {
    const config = await client(party, 'portal');
    const { left } = await signIn(party, config, 'portal');
    const answers = await Promise.allSettled(Array.from({ length: 50 }, () => redeem(config, left)));
    const won = answers.filter(({ status }) => status === 'fulfilled');
    assert.equal(won.length, 1, `${won.length} redemptions succeeded`);
    for (const { reason } of answers.filter(({ status }) => status === 'rejected')) {
      assert.equal(reason.error, 'invalid_grant', reason);
    }
  }));
});

describe('a provider that ignores acr_values', () => {
  // A gateway for each test: after two logins without proof it sends nobody round any more.
  beforeEach(() => start({ secondFactor: false }));
  afterEach(stop);

  test('the tokens are withheld with an error that openid-client raises, and made unusable', { timeout: TEST_WITHIN_MS }, () => withParty(async (party) => {
    const config = await client(party, 'portal');
    const { left, pages } = await signIn(party, config, 'portal');
    assert.deepEqual(pages, ['login.do', 'oauth2_consent.do'], 'the provider asked for one factor');
    await assert.rejects(redeem(config, left), (error) => {
      assert.ok(error instanceof openid.ResponseBodyError, error);
      assert.equal(error.error, 'invalid_grant');
      assert.equal(error.status, 400);
      assert.equal(error.cause.acr_values, MFA);
      assert.ok(Number.isInteger(error.cause.max_age));
      return true;
    });
    const issued = lastIssued();
    for (const token of [issued.access_token, issued.refresh_token]) {
      assert.equal(await isActive(token), false, 'a withheld token is still good');
    }
  }));

  test('oauth4webapi raises it too, and the client recovers by a new authorization', { timeout: TEST_WITHIN_MS }, () => withParty(async (party) => {
    const config = await client(party, 'portal');
    const { left } = await signIn(party, config, 'portal');
    const as = config.serverMetadata();
    const self = { client_id: 'portal' };
    const response = await oauth.authorizationCodeGrantRequest(
      as,
      self,
      oauth.ClientSecretBasic(clientSecret('portal')),
      oauth.validateAuthResponse(as, self, left, STATE),
      redirectUri('portal'),
      VERIFIER,
      { [oauth.allowInsecureRequests]: true },
    );
    await assert.rejects(oauth.processAuthorizationCodeResponse(as, self, response), (error) => {
      assert.ok(error instanceof oauth.ResponseBodyError, error);
      assert.deepEqual([error.error, error.status, error.cause.acr_values], ['invalid_grant', 400, MFA]);
      return true;
    });

    // The script is there now: what the library tells its caller to do, works.
    serve(true);
    const again = new Party(origin);
    try {
      const { left: callback, pages } = await signIn(again, await client(again, 'portal'), 'portal');
      assert.ok(pages.includes('totp.do'), pages);
      const tokens = await redeem(config, callback);
      assert.equal(tokens.claims().acr, MFA);
    } finally {
      again.close();
      serve(false);
    }
  }));

  test('Authlib raises it too', { timeout: TEST_WITHIN_MS }, () => withParty(async (party) => {
    const config = await client(party, 'portal');
    const { left } = await signIn(party, config, 'portal');
    const python = process.env.AUTHLIB_PYTHON;
    assert.ok(python, 'AUTHLIB_PYTHON is not set: run scripts/test-node.sh');
    // Authlib sends credentials as they are; RFC 6749 section 2.3.1 wants them form-encoded.
    const secret = encodeURIComponent(clientSecret('portal'));
    const { stdout } = await promisify(execFile)(python, [
      path.join(REPOSITORY, 'tests/oidc/authlib_client.py'),
      config.serverMetadata().token_endpoint, 'portal', secret, redirectUri('portal'), left.href, VERIFIER,
    ], { timeout: TEST_WITHIN_MS });
    assert.deepEqual(JSON.parse(stdout), { raised: 'OAuthError', error: 'invalid_grant' });
  }));

  test('it does not go round in circles', { timeout: TEST_WITHIN_MS }, () => withParty(async (party) => {
    const config = await client(party, 'portal');
    for (let round = 0; round < 4; round += 1) {
      const before_ = party.recorder.exchanges.length;
      const { left, url, page } = await signIn(party, config, 'portal');
      const redirects = party.recorder.exchanges.slice(before_)
        .filter(({ request, response }) => request.target.startsWith('/oauth2/authorize?') && response.status === 302
          && response.headers.some(([name, value]) => name === 'location' && value.includes('acr_values=') && value.startsWith('/')));
      assert.ok(redirects.length <= 2, `${redirects.length} redirects in round ${round}`);
      if (left === undefined) {
        assert.match(page, /second|factor|sign in/i, `no page that says what to do at ${url}`);
        return;
      }
      await assert.rejects(redeem(config, left), { error: 'invalid_grant' });
    }
    assert.fail('four rounds, and never a page that says what to do');
  }));
});

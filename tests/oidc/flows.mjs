// The flows: what a relying party and its user do at the provider, with npm `openid-client`.
//
// Each flow is a function of a `Party` and asserts its own success, so that it fails by itself
// when a token does not verify. Nothing here depends on whether riskgate stands between. State, nonce and
// verifier are fixed: two runs then send the same bytes except for what the provider issued.

import assert from 'node:assert/strict';

import * as openid from 'openid-client';

import {
  ACCOUNT, BATCH_KEY, RESOURCE, clientSecret, redirectUri,
} from './provider.mjs';
import { Recorder } from './recording.mjs';
import { UserAgent } from './user-agent.mjs';

const VERIFIER = 'verifier-of-43-characters-or-more-as-RFC-7636-asks';
const STATE = 'state~with.unreserved_characters-1';
const NONCE = 'nonce-1';

async function clientAuth(clientId) {
  if (clientId === 'portal') return openid.ClientSecretBasic(clientSecret(clientId));
  if (clientId === 'backoffice') return openid.ClientSecretPost(clientSecret(clientId));
  if (clientId === 'mobile') return openid.None();
  const key = await crypto.subtle.importKey('jwk', BATCH_KEY.privateKey.export({ format: 'jwk' }), { name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign']);
  return openid.PrivateKeyJwt({ key, kid: 'batch' });
}

/** One client and one browser at `origin`, with the recording of all they send. */
export class Party {
  constructor(origin) {
    this.origin = origin;
    this.recorder = new Recorder();
    this.userAgent = new UserAgent(this.recorder, origin);
  }

  /** The client `clientId`, configured by discovery as a real one is. */
  async client(clientId) {
    return openid.discovery(
      new URL(`${this.origin}/oauth2/token`),
      clientId,
      undefined,
      await clientAuth(clientId),
      { execute: [openid.allowInsecureRequests], [openid.customFetch]: this.recorder.fetch },
    );
  }

  close() {
    this.recorder.close();
  }
}

async function authorizationParameters(clientId, more = {}) {
  return {
    redirect_uri: redirectUri(clientId),
    scope: 'openid profile email',
    code_challenge: await openid.calculatePKCECodeChallenge(VERIFIER),
    code_challenge_method: 'S256',
    state: STATE,
    nonce: NONCE,
    ...more,
  };
}

/** Signs in on the login page and consents on the next; returns the URL of the callback. */
async function signIn(userAgent, loginPage) {
  assert.equal(loginPage.url?.pathname, '/authenticationendpoint/login.do');
  const consentPage = await userAgent.submit(loginPage, { username: ACCOUNT.username, password: ACCOUNT.password });
  assert.equal(consentPage.url?.pathname, '/authenticationendpoint/oauth2_consent.do');
  const { left } = await userAgent.submit(consentPage);
  assert.ok(left?.searchParams.has('code'), `no code in ${left}`);
  assert.equal(left.searchParams.get('iss'), `${userAgent.origin}/oauth2/token`);
  return left;
}

async function redeem(config, callback) {
  const tokens = await openid.authorizationCodeGrant(config, callback, {
    pkceCodeVerifier: VERIFIER, expectedState: STATE, expectedNonce: NONCE, idTokenExpected: true,
  });
  assert.equal(tokens.claims().sub, ACCOUNT.sub);
  assert.equal(tokens.token_type, 'bearer');
  return tokens;
}

/** The tokens of a fresh sign-in of `portal`; with `verified` the client verifies signatures, TLS or not. */
export async function portalTokens(party, { verified = false } = {}) {
  const config = await party.client('portal');
  if (verified) openid.enableNonRepudiationChecks(config);
  const url = openid.buildAuthorizationUrl(config, await authorizationParameters('portal'));
  const tokens = await redeem(config, await signIn(party.userAgent, await party.userAgent.open(url)));
  return { config, tokens };
}

/** The OAuth error code with which `promise` fails. */
async function oauthError(promise) {
  try {
    await promise;
  } catch (error) {
    return error.error ?? error.cause?.[0]?.parameters?.error ?? error.code;
  }
  return 'none: it succeeded';
}

async function discovery(party) {
  const config = await party.client('portal');
  const metadata = config.serverMetadata();
  assert.equal(metadata.token_endpoint, `${party.origin}/oauth2/token`);
  assert.equal(metadata.pushed_authorization_request_endpoint, `${party.origin}/oauth2/par`);
  const root = await party.recorder.fetch(`${party.origin}/.well-known/openid-configuration`);
  assert.deepEqual(await root.json(), JSON.parse(JSON.stringify(metadata)));
  const keys = await party.recorder.fetch(metadata.jwks_uri);
  assert.deepEqual((await keys.json()).keys.map(({ kid }) => kid), ['provider_RS256']);
}

async function codeWithPkce(party) {
  const { config, tokens } = await portalTokens(party);
  openid.enableNonRepudiationChecks(config);
  const claims = await openid.fetchUserInfo(config, tokens.access_token, ACCOUNT.sub);
  assert.equal(claims.email, 'alice@example.com');
  const posted = await party.recorder.fetch(config.serverMetadata().userinfo_endpoint, {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams({ access_token: tokens.access_token }),
  });
  assert.deepEqual(await posted.json(), { ...claims });

  // A code is good once; the second redemption is refused in the provider's own words.
  const callback = new URL(redirectUri('portal'));
  callback.searchParams.set('code', 'no-such-code');
  callback.searchParams.set('state', STATE);
  callback.searchParams.set('iss', `${party.origin}/oauth2/token`);
  assert.equal(await oauthError(openid.authorizationCodeGrant(config, callback, { pkceCodeVerifier: VERIFIER, expectedState: STATE })), 'invalid_grant');
}

async function idTokenSignature(party) {
  const config = await party.client('portal');
  // Also over TLS-less transport the signature is checked against the key set at the gateway.
  openid.enableNonRepudiationChecks(config);
  const url = openid.buildAuthorizationUrl(config, await authorizationParameters('portal', { claims: '{"id_token":{"email":{"essential":true}}}', ui_locales: 'fr-CA en', login_hint: 'alice+test@example.com' }));
  const tokens = await redeem(config, await signIn(party.userAgent, await party.userAgent.open(url)));
  assert.equal(tokens.expires_in, 3600);
}

async function postedAuthorization(party) {
  const config = await party.client('portal');
  const url = openid.buildAuthorizationUrl(config, await authorizationParameters('portal'));
  const loginPage = await party.userAgent.open(url.pathname, { method: 'POST', body: url.searchParams.toString() });
  await redeem(config, await signIn(party.userAgent, loginPage));
}

async function refusedLogin(party) {
  const config = await party.client('portal');
  const url = openid.buildAuthorizationUrl(config, await authorizationParameters('portal'));
  const loginPage = await party.userAgent.open(url);
  const again = await party.userAgent.submit(loginPage, { username: ACCOUNT.username, password: 'not this one' });
  assert.equal(again.url.searchParams.get('authFailure'), 'true');
  await redeem(config, await signIn(party.userAgent, again));
}

async function singleSignOn(party) {
  const { config } = await portalTokens(party);
  const url = openid.buildAuthorizationUrl(config, await authorizationParameters('portal', { prompt: 'none' }));
  const { left } = await party.userAgent.open(url);
  await redeem(config, left);

  const stranger = new UserAgent(party.recorder, party.origin);
  const refused = await stranger.open(url);
  assert.equal(refused.left.searchParams.get('error'), 'login_required');
}

async function refresh(party) {
  const { config, tokens } = await portalTokens(party);
  const second = await openid.refreshTokenGrant(config, tokens.refresh_token);
  assert.notEqual(second.refresh_token, tokens.refresh_token);
  assert.notEqual(second.access_token, tokens.access_token);
  const third = await openid.refreshTokenGrant(config, second.refresh_token, { scope: 'openid' });
  assert.equal(third.scope, 'openid');
  // A rotated token that comes back ends the whole family.
  assert.equal(await oauthError(openid.refreshTokenGrant(config, tokens.refresh_token)), 'invalid_grant');
  assert.equal(await oauthError(openid.refreshTokenGrant(config, third.refresh_token)), 'invalid_grant');
}

async function clientCredentials(party) {
  const config = await party.client('batch');
  const opaque = await openid.clientCredentialsGrant(config);
  assert.equal(opaque.expires_in, 3600);
  const signed = await openid.clientCredentialsGrant(config, { resource: RESOURCE, scope: 'orders:read orders:write' });
  assert.equal(signed.scope, 'orders:read orders:write');
  assert.equal(signed.access_token.split('.').length, 3);
  assert.equal(await oauthError(openid.clientCredentialsGrant(config, { resource: 'https://unknown.example.com' })), 'invalid_target');
}

async function wrongClientSecret(party) {
  const config = await openid.discovery(
    new URL(`${party.origin}/oauth2/token`),
    'portal',
    undefined,
    openid.ClientSecretBasic('not the secret'),
    { execute: [openid.allowInsecureRequests], [openid.customFetch]: party.recorder.fetch },
  );
  await assert.rejects(openid.clientCredentialsGrant(config));
  assert.equal(party.recorder.exchanges.at(-1).response.status, 401);
}

async function pushedAuthorization(party) {
  const config = await party.client('mobile');
  const url = await openid.buildAuthorizationUrlWithPAR(config, await authorizationParameters('mobile'));
  assert.match(url.searchParams.get('request_uri'), /^urn:ietf:params:oauth:request_uri:/);
  const tokens = await redeem(config, await signIn(party.userAgent, await party.userAgent.open(url)));
  await openid.refreshTokenGrant(config, tokens.refresh_token);

  // A request URI that was never issued, and a client that must push but does not.
  url.searchParams.set('request_uri', 'urn:ietf:params:oauth:request_uri:unknown');
  assert.equal((await party.userAgent.open(url)).left.searchParams.get('error'), 'invalid_request_uri');
  const direct = openid.buildAuthorizationUrl(config, await authorizationParameters('mobile'));
  assert.equal((await party.userAgent.open(direct)).left.searchParams.get('error'), 'invalid_request');
}

async function introspectAndRevoke(party) {
  const { config, tokens } = await portalTokens(party);
  const backoffice = await party.client('backoffice');
  const active = await openid.tokenIntrospection(backoffice, tokens.access_token, { token_type_hint: 'access_token' });
  assert.equal(active.active, true);
  assert.equal(active.client_id, 'portal');
  assert.equal((await openid.tokenIntrospection(backoffice, tokens.refresh_token)).active, true);
  assert.equal((await openid.tokenIntrospection(backoffice, 'never-issued')).active, false);

  await openid.tokenRevocation(config, tokens.access_token);
  assert.equal((await openid.tokenIntrospection(backoffice, tokens.access_token)).active, false);
  await assert.rejects(openid.fetchUserInfo(config, tokens.access_token, ACCOUNT.sub), { code: 'OAUTH_WWW_AUTHENTICATE_CHALLENGE' });
  await openid.tokenRevocation(config, tokens.refresh_token, { token_type_hint: 'refresh_token' });
  assert.equal(await oauthError(openid.refreshTokenGrant(config, tokens.refresh_token)), 'invalid_grant');
}

async function logout(party) {
  const { config, tokens } = await portalTokens(party);
  const url = openid.buildEndSessionUrl(config, { id_token_hint: tokens.id_token, post_logout_redirect_uri: 'https://portal.example.com/bye' });
  const page = await party.userAgent.open(url);
  assert.equal(page.status, 200);
  assert.match(page.page, /<form[^>]*method="post"/);
}

/** Every flow by its name. */
export const FLOWS = {
  'discovery and key set': discovery,
  'code with PKCE, userinfo by GET and POST': codeWithPkce,
  'ID token signature, claims and locales in the request': idTokenSignature,
  'authorization request by POST': postedAuthorization,
  'wrong password, then the right one': refusedLogin,
  'single sign-on with prompt=none': singleSignOn,
  'refresh with rotation and reuse': refresh,
  'client credentials with private_key_jwt, opaque and JWT': clientCredentials,
  'wrong client secret': wrongClientSecret,
  'pushed authorization request': pushedAuthorization,
  'introspection and revocation': introspectAndRevoke,
  'logout page': logout,
};

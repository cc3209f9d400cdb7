// A web application that lets its users sign in: it sends them to the identity server, receives
// the callback and redeems the code, over TLS, at the gateway.
//
// Written out with Node's own means, so that each message is seen; it checks what it gets.

import assert from 'node:assert/strict';
import {
  createHash, createPublicKey, randomBytes, verify,
} from 'node:crypto';
import http from 'node:http';
import https from 'node:https';

const ANSWER_WITHIN_MS = 60_000;

/** One HTTPS exchange with a server whose certificate is `ca`. */
export function exchange(url, { ca, method = 'GET', headers = {}, body }) {
  return new Promise((resolve, reject) => {
    const request = https.request(url, {
      agent: false, ca, family: 4, headers, method, timeout: ANSWER_WITHIN_MS,
    }, (response) => {
      const chunks = [];
      response.on('data', (chunk) => { chunks.push(chunk); });
      response.on('error', reject);
      response.on('end', () => {
        resolve({ status: response.statusCode, headers: response.headers, text: Buffer.concat(chunks).toString('utf8') });
      });
    });
    request.on('timeout', () => { request.destroy(new Error(`no answer from ${url} within ${ANSWER_WITHIN_MS} ms`)); });
    request.on('error', reject);
    request.end(body);
  });
}

/** The applications of the simulator; `demo-spa` is a public client. */
export const SECRETS = {
  'demo-consent': 'demo-consent-secret',
  'demo-opaque': 'demo-opaque-secret',
  'demo-spa': undefined,
  'demo-web': 'demo-web-secret',
};

/** The PKCE challenge of `verifier` (RFC 7636 section 4.2, S256). */
export function challengeOf(verifier) {
  return createHash('sha256').update(verifier).digest('base64url');
}

/** The callback endpoint that all applications share. */
export class CallbackServer {
  #server = http.createServer((request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8' });
    response.end('<!DOCTYPE html><html lang="en"><head><title>Signed in</title><link rel="icon" href="data:,"></head><body><h1>Signed in</h1></body></html>');
  });

  async start() {
    await new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(0, '127.0.0.1', resolve);
    });
    this.url = `http://127.0.0.1:${this.#server.address().port}/cb`;
  }

  async stop() {
    this.#server.closeAllConnections();
    await new Promise((resolve) => { this.#server.close(resolve); });
  }
}

/** One sign-in at the application `clientId`: its own state, nonce and PKCE verifier. */
export class SignIn {
  constructor({
    ca, clientId, issuerOrigin, redirectUri,
  }) {
    assert.ok(clientId in SECRETS, `no application \`${clientId}\``);
    Object.assign(this, {
      ca, clientId, issuerOrigin, redirectUri,
    });
    this.verifier = randomBytes(32).toString('base64url');
    this.state = randomBytes(12).toString('base64url');
    this.nonce = randomBytes(12).toString('base64url');
  }

  /** Where the application sends the browser. */
  get authorizationUrl() {
    const query = new URLSearchParams({
      client_id: this.clientId,
      redirect_uri: this.redirectUri,
      response_type: 'code',
      scope: 'openid profile',
      state: this.state,
      nonce: this.nonce,
      code_challenge: challengeOf(this.verifier),
      code_challenge_method: 'S256',
    });
    return `${this.issuerOrigin}/oauth2/authorize?${query}`;
  }

  /** Redeems the code of the callback URL; returns the tokens and the verified claims of the ID token. */
  async redeem(callback) {
    const parameters = new URL(callback).searchParams;
    assert.equal(parameters.get('error'), null, `the callback carries an error: ${callback}`);
    assert.equal(parameters.get('state'), this.state);
    assert.ok(parameters.get('code'), 'the callback carries no code');
    const body = new URLSearchParams({
      grant_type: 'authorization_code',
      code: parameters.get('code'),
      redirect_uri: this.redirectUri,
      code_verifier: this.verifier,
    });
    const headers = { 'content-type': 'application/x-www-form-urlencoded' };
    const secret = SECRETS[this.clientId];
    if (secret === undefined) body.set('client_id', this.clientId);
    else headers.authorization = `Basic ${Buffer.from(`${this.clientId}:${secret}`).toString('base64')}`;
    headers['content-length'] = String(Buffer.byteLength(body.toString()));

    const answer = await exchange(`${this.issuerOrigin}/oauth2/token`, {
      ca: this.ca, method: 'POST', headers, body: body.toString(),
    });
    assert.equal(answer.status, 200, `the token endpoint answered ${answer.status}: ${answer.text}`);
    const tokens = JSON.parse(answer.text);
    return { tokens, claims: await this.#verified(tokens.id_token) };
  }

  async #verified(idToken) {
    const [head, payload, signature] = idToken.split('.');
    const { alg, kid } = JSON.parse(Buffer.from(head, 'base64url').toString('utf8'));
    assert.equal(alg, 'RS256');
    const { keys } = JSON.parse((await exchange(`${this.issuerOrigin}/oauth2/jwks`, { ca: this.ca })).text);
    const key = keys.find((candidate) => candidate.kid === kid);
    assert.ok(key, `the key set has no key \`${kid}\``);
    const isGenuine = verify('sha256', Buffer.from(`${head}.${payload}`), createPublicKey({ key, format: 'jwk' }), Buffer.from(signature, 'base64url'));
    assert.ok(isGenuine, 'the signature of the ID token is wrong');

    const claims = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8'));
    assert.equal(claims.iss, `${this.issuerOrigin}/oauth2/token`);
    assert.ok([claims.aud].flat().includes(this.clientId), 'the ID token is for another application');
    assert.equal(claims.nonce, this.nonce);
    return claims;
  }
}

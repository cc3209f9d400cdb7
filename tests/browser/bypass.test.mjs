// Attempts to get round a demand for a second factor, with a real browser: in front of the simulated identity server, whose
// applications run the shipped script, and in front of a certified provider that follows `acr_values`.
//
// One browser string is risky and no other is, as if it alone made the score: whoever changes it, drops cookies, goes back or
// comes with somebody else's success has to be asked all the same. A gateway for each test, since demands are remembered.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  after, afterEach, before, beforeEach, describe, test,
} from 'node:test';
import { promisify } from 'node:util';

import { freePort, startGateway } from '../oidc/gateway.mjs';
import * as certified from '../oidc/provider.mjs';
import { recordingServer } from '../oidc/recording.mjs';
import {
  CallbackServer, SECRETS, challengeOf, exchange,
} from './application.mjs';
import { launchChromium } from './chromium.mjs';
import { ALICE, startIdentityServer, totp } from './identity-server.mjs';

const TEST_WITHIN_MS = 120_000;
const STEP_WITHIN_MS = 30_000;
const PAGES_MAX = 8;
const MFA = 'urn:riskgate:acr:mfa';
const RISKY = 'curl/8.5.0';
const COOKIE_OF_DEMANDS = '__Host-rg_demand';
const COOKIE_OF_DEVICES = '__Host-rg_device';

const POLICY = `
version = 1

[[rule]]
name = "one-browser-is-risky"
when = 'agent.browser == "curl"'
verdict = "step_up"

[[rule]]
name = "the-rest-is-allowed"
when = "true"
verdict = "allow"
`;

/** The simulated identity server, and one of its applications. */
function simulator() {
  const callbacks = new CallbackServer();
  let server;
  return {
    client: { id: 'demo-web', secret: SECRETS['demo-web'] },
    tellsSuccess: true,
    // The one application that may use the password grant.
    legacy: { client: { id: 'demo-legacy', secret: 'demo-legacy-secret' }, error: 'interaction_required' },
    account: { username: ALICE.username, password: ALICE.password },
    code: () => totp(ALICE.totpSecret),
    get redirectUri() { return callbacks.url; },
    async start(port, publicUrl) {
      await callbacks.start();
      server = await startIdentityServer({ port, publicUrl });
    },
    async stop() {
      await callbacks.stop();
      await server?.stop();
    },
  };
}

/** The certified provider; without `secondFactor` it ignores `acr_values`. */
function provider({ secondFactor }) {
  let upstream;
  return {
    client: { id: 'portal', secret: encodeURIComponent(certified.clientSecret('portal')) },
    tellsSuccess: false,
    // It has no such grant; what it says passes.
    legacy: { client: { id: 'portal', secret: encodeURIComponent(certified.clientSecret('portal')) }, error: 'unsupported_grant_type' },
    account: certified.ACCOUNT,
    code: () => certified.CODE,
    redirectUri: certified.redirectUri('portal'),
    async start(port, publicUrl) {
      upstream = await recordingServer(port);
      upstream.serve(certified.providerHandler(publicUrl, { secondFactor }));
    },
    stop: () => upstream?.close(),
  };
}

let directory;
let tls;
let ca;
let browser;

before(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'riskgate-bypass-'));
  tls = { certificate: path.join(directory, 'tls.crt'), key: path.join(directory, 'tls.key') };
  await promisify(execFile)('openssl', [
    'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1', '-sha256',
    '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1',
    '-keyout', tls.key, '-out', tls.certificate,
  ]);
  ca = await readFile(tls.certificate);
  browser = await launchChromium();
});

after(async () => {
  await browser?.close();
  await rm(directory, { recursive: true, force: true });
});

/** A gateway in front of `server`, and what people do there. */
class Stage {
  constructor(server) {
    this.server = server;
  }

  async start() {
    const port = await freePort();
    const upstreamPort = await freePort();
    this.origin = `https://localhost:${port}`;
    await this.server.start(upstreamPort, this.origin);
    this.gateway = await startGateway({
      port,
      upstream: `http://127.0.0.1:${upstreamPort}`,
      mode: 'enforce',
      policy: POLICY,
      config: `[server.tls]\ncertificate = ${JSON.stringify(tls.certificate)}\nkey = ${JSON.stringify(tls.key)}`,
    });
    this.profiles = [];
  }

  async stop() {
    for (const profile of this.profiles) await profile.close();
    try {
      await this.gateway?.stop();
    } finally {
      await this.server.stop();
    }
  }

  /** A fresh browser, risky or not, or one with the cookies of another. */
  async person({ risky = false, cookies } = {}) {
    const profile = await browser.profile({ userAgent: risky ? RISKY : browser.userAgent });
    this.profiles.push(profile);
    if (cookies !== undefined) await profile.addCookies(cookies);
    return new Person(this, profile, await profile.newPage());
  }

  /** A sign-in of the application's: where it begins, and what redeems its code. */
  begin() {
    const verifier = randomBytes(32).toString('base64url');
    const state = randomBytes(12).toString('base64url');
    const query = new URLSearchParams({
      client_id: this.server.client.id,
      redirect_uri: this.server.redirectUri,
      response_type: 'code',
      scope: 'openid',
      state,
      nonce: randomBytes(12).toString('base64url'),
      code_challenge: challengeOf(verifier),
      code_challenge_method: 'S256',
    });
    return { url: `${this.origin}/oauth2/authorize?${query}`, verifier, state };
  }

  /** The answer of the token endpoint. */
  async token(fields, { id, secret } = this.server.client) {
    const body = new URLSearchParams(fields).toString();
    const answer = await exchange(`${this.origin}/oauth2/token`, {
      ca,
      method: 'POST',
      headers: {
        authorization: `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}`,
        'content-type': 'application/x-www-form-urlencoded',
        'content-length': String(Buffer.byteLength(body)),
      },
      body,
    });
    return { status: answer.status, json: JSON.parse(answer.text) };
  }

  /** Whoever came so far without the factor has nothing: no way to the application, or a code that gives no tokens. */
  async givesNothing(signIn, callback) {
    if (callback === undefined) return;
    const { status, json } = await this.redeem(signIn, callback);
    assert.deepEqual([status, json.error], [400, 'invalid_grant'], 'tokens without the factor');
  }

  redeem(signIn, callback) {
    const parameters = new URL(callback).searchParams;
    assert.equal(parameters.get('state'), signIn.state);
    return this.token({
      grant_type: 'authorization_code',
      code: parameters.get('code'),
      redirect_uri: this.server.redirectUri,
      code_verifier: signIn.verifier,
    });
  }
}

function claimsOf(tokens) {
  return JSON.parse(Buffer.from(tokens.id_token.split('.')[1], 'base64url').toString('utf8'));
}

function isPage(url, name) {
  return new URL(url).pathname.endsWith(`/${name}`);
}

async function until(check, what) {
  const end = Date.now() + STEP_WITHIN_MS;
  for (;;) {
    const found = await check();
    if (found) return found;
    if (Date.now() > end) throw new Error(`not within ${STEP_WITHIN_MS} ms: ${what}`);
    await new Promise((resolve) => { setTimeout(resolve, 20); });
  }
}

/** One browser, and what it was shown. */
class Person {
  #stage;

  /** The page that the last sign-in ended at, by its file name, and the pages before it. */
  pages = [];

  constructor(stage, profile, page) {
    this.#stage = stage;
    this.profile = profile;
    this.page = page;
    this.authorizations = [];
    // What comes back is seen as it leaves: nobody listens at the addresses of the provider's applications.
    profile.on('request', (request) => {
      if (!request.isNavigationRequest()) return;
      if (request.url().startsWith(stage.server.redirectUri)) this.callback = request.url();
      if (new URL(request.url()).pathname === '/oauth2/authorize') this.authorizations.push(request.url());
    });
  }

  /** Opens `url`; a way that ends at an application where nobody listens is a way that ends. */
  async open(url) {
    this.callback = undefined;
    const response = await this.page.goto(url).catch((error) => {
      if (this.callback === undefined) throw error;
    });
    this.status = response?.status();
  }

  /** Sends the form of the page. */
  async submit(fields) {
    for (const [name, value] of Object.entries(fields)) {
      await this.page.locator(name).first().fill(value);
    }
    const answered = this.page.waitForResponse((response) => response.request().method() === 'POST');
    await this.page.locator('[type="submit"], button').first().click();
    await answered;
    await this.settle();
  }

  async settle() {
    await until(async () => this.callback !== undefined
      || (await this.page.evaluate(() => document.readyState).catch(() => 'moving')) === 'complete', 'a page');
  }

  password() {
    const { username, password } = this.#stage.server.account;
    return this.submit({ 'input:visible[name="usernameUserInput"], input:visible[name="username"]': username, 'input[name="password"]': password });
  }

  factor(code = this.#stage.server.code()) {
    return this.submit({ 'input:visible': code });
  }

  /** Does what each page asks for, without the second factor unless `factor`; returns the callback, if it came to that. */
  async signIn(url, { factor = false } = {}) {
    this.pages = [];
    await this.open(url);
    for (let step = 0; step < PAGES_MAX && this.callback === undefined; step += 1) {
      const name = new URL(this.page.url()).pathname.split('/').at(-1);
      this.pages.push(name);
      if (name === 'login.do') await this.password();
      else if (name === 'totp.do' && factor) await this.factor();
      else if (name === 'oauth2_consent.do') await this.submit({});
      else break;
    }
    const { callback } = this;
    // Where nobody listens the tab is on its way to an error page, which must not come in between later.
    if (callback !== undefined) {
      await this.page.close();
      this.page = await this.profile.newPage();
    }
    return callback;
  }

  /** Whether the last sign-in ended where the second factor is asked for. */
  get isAsked() {
    return this.callback === undefined && isPage(this.page.url(), 'totp.do');
  }

  cookies() {
    return this.profile.cookies();
  }
}

for (const [name, make] of [
  ['the simulated identity server', simulator],
  ['a certified provider', () => provider({ secondFactor: true })],
]) {
  describe(`a demand in front of ${name}`, () => {
    let stage;
    beforeEach(async () => {
      stage = new Stage(make());
      await stage.start();
    });
    afterEach(() => stage.stop());

    /** Somebody with the password and without the second factor who has been asked for it. */
    async function thief() {
      const person = await stage.person({ risky: true });
      await person.signIn(stage.begin().url);
      assert.ok(person.isAsked, `at ${person.page.url()}`);
      return person;
    }

    test('a safe login has no further step', { timeout: TEST_WITHIN_MS }, async () => {
      const person = await stage.person();
      const signIn = stage.begin();
      const callback = await person.signIn(signIn.url);
      assert.ok(!person.pages.includes('totp.do'), person.pages.join());
      const { status, json } = await stage.redeem(signIn, callback);
      assert.equal(status, 200, JSON.stringify(json));
      assert.notEqual(claimsOf(json).acr, MFA);
    });

    test('a risky login ends with the class that is required', { timeout: TEST_WITHIN_MS }, async () => {
      const person = await stage.person({ risky: true });
      const signIn = stage.begin();
      const callback = await person.signIn(signIn.url, { factor: true });
      assert.ok(person.pages.includes('totp.do'), person.pages.join());
      const { status, json } = await stage.redeem(signIn, callback);
      assert.equal(status, 200, JSON.stringify(json));
      assert.equal(claimsOf(json).acr, MFA);
    });

    test('S2: one code in fifty hands at once is redeemed once', { timeout: TEST_WITHIN_MS }, async () => {
      const person = await stage.person({ risky: true });
      const signIn = stage.begin();
      const callback = await person.signIn(signIn.url, { factor: true });
      const answers = await Promise.all(Array.from({ length: 50 }, () => stage.redeem(signIn, callback)));
      assert.equal(answers.filter(({ status }) => status === 200).length, 1);
      for (const { status, json } of answers.filter((answer) => answer.status !== 200)) {
        assert.deepEqual([status, json.error], [400, 'invalid_grant']);
      }
    });

    test('S2: a success is not good for another browser', { timeout: TEST_WITHIN_MS }, async () => {
      const person = await stage.person({ risky: true });
      const signIn = stage.begin();
      const { status } = await stage.redeem(signIn, await person.signIn(signIn.url, { factor: true }));
      assert.equal(status, 200);
      const other = await stage.person({ risky: true });
      await other.signIn(stage.begin().url);
      assert.ok(other.isAsked, `at ${other.page.url()}`);
    });

    test('S3: going back and sending the password again', { timeout: TEST_WITHIN_MS }, async () => {
      const person = await thief();
      for (let round = 0; round < 2; round += 1) {
        await person.page.goBack();
        await person.settle();
        if (isPage(person.page.url(), 'login.do')) await person.password();
        assert.equal(person.callback, undefined, 'the way back led to the application');
      }
    });

    test('S3: another tab, opened before', { timeout: TEST_WITHIN_MS }, async () => {
      const person = await stage.person({ risky: true });
      const tab = new Person(stage, person.profile, await person.profile.newPage());
      await tab.open(stage.begin().url);
      await person.signIn(stage.begin().url);
      assert.ok(person.isAsked);
      assert.ok(isPage(tab.page.url(), 'login.do'));
      await tab.password();
      assert.equal(tab.callback, undefined, 'the other tab led to the application');
    });

    test('S3: dropped cookies and another browser string', { timeout: TEST_WITHIN_MS }, async () => {
      await thief();
      let asked = 0;
      for (let round = 0; round < 5; round += 1) {
        const person = await stage.person();
        const signIn = stage.begin();
        const callback = await person.signIn(signIn.url);
        await stage.givesNothing(signIn, callback);
        asked += Number(person.isAsked);
      }
      assert.ok(asked <= 2, `the telephone rang ${asked + 1} times`);
    });

    test('S3: the same browser with another string', { timeout: TEST_WITHIN_MS }, async () => {
      const person = await thief();
      const disguised = await stage.person({ cookies: await person.cookies() });
      await disguised.signIn(stage.begin().url);
      assert.ok(disguised.isAsked, `at ${disguised.page.url()}`);
    });

    test('S3: the parameters of the demand taken out of the address', { timeout: TEST_WITHIN_MS }, async () => {
      const person = await thief();
      const demanded = person.authorizations.findLast((url) => new URL(url).searchParams.has('acr_values'));
      assert.ok(demanded, person.authorizations.join('\n'));
      const stripped = new URL(demanded);
      for (const parameter of ['acr_values', 'max_age', 'prompt']) stripped.searchParams.delete(parameter);
      for (let round = 0; round < 3; round += 1) {
        const callback = await person.signIn(stripped.href);
        assert.equal(callback, undefined, `round ${round} got through`);
      }
    });

    test('S3: the login form alone, straight to its door', { timeout: TEST_WITHIN_MS }, async () => {
      const person = await stage.person({ risky: true });
      const signIn = stage.begin();
      await person.open(signIn.url);
      const key = new URL(person.page.url()).searchParams.get('sessionDataKey');
      const { username, password } = stage.server.account;
      // With the browser's cookies and the string of another browser.
      const headers = { 'user-agent': 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0' };
      await person.profile.request.post(`${stage.origin}/commonauth`, {
        form: { username, usernameUserInput: username, password, sessionDataKey: key }, headers, maxRedirects: 0,
      });
      const resumed = await person.profile.request.get(`${stage.origin}/oauth2/authorize?sessionDataKey=${key}`, { headers, maxRedirects: 0 });
      const location = resumed.headers().location ?? '';
      const hasCode = new URL(location, stage.origin).searchParams.has('code');
      await stage.givesNothing(signIn, hasCode ? location : undefined);
    });

    test('S3: the password grant after a challenge', { timeout: TEST_WITHIN_MS }, async () => {
      await thief();
      const { username, password } = stage.server.account;
      const { client, error } = stage.server.legacy;
      const { status, json } = await stage.token({
        grant_type: 'password', username, password, scope: 'openid',
      }, client);
      assert.deepEqual([status, json.error, json.access_token], [400, error, undefined]);
    });

    test('S1: a demand cookie with a bit turned over', { timeout: TEST_WITHIN_MS }, async () => {
      const person = await thief();
      const cookies = await person.cookies();
      const sealed = cookies.find((cookie) => cookie.name === COOKIE_OF_DEMANDS);
      assert.ok(sealed, 'no copy of the demand in the browser');
      assert.deepEqual([sealed.secure, sealed.httpOnly, sealed.path, sealed.domain], [true, true, '/', 'localhost']);
      const middle = Math.floor(sealed.value.length / 2);
      const turned = sealed.value[middle] === 'A' ? 'B' : 'A';
      const value = sealed.value.slice(0, middle) + turned + sealed.value.slice(middle + 1);
      const forger = await stage.person({ cookies: [{ ...sealed, value }] });
      const signIn = stage.begin();
      await stage.givesNothing(signIn, await forger.signIn(signIn.url));
    });

    test('S5: every cookie of a known browser, in another one', { timeout: TEST_WITHIN_MS }, async () => {
      const owner = await stage.person();
      const signIn = stage.begin();
      assert.equal((await stage.redeem(signIn, await owner.signIn(signIn.url))).status, 200);
      const cookies = await owner.cookies();
      const device = cookies.find((cookie) => cookie.name === COOKIE_OF_DEVICES);
      // A session of the identity server's is what shows that a login succeeded; the provider has none of that name.
      assert.equal(device !== undefined, stage.server.tellsSuccess, 'the device cookie');
      for (const cookie of cookies.filter(({ name }) => name.startsWith('__Host-'))) {
        assert.deepEqual([cookie.secure, cookie.httpOnly, cookie.path], [true, true, '/'], cookie.name);
      }
      const other = await stage.person({ risky: true, cookies });
      assert.equal(await other.signIn(stage.begin().url), undefined);
      assert.ok(other.isAsked, `at ${other.page.url()}`);
    });

    test('S6: what is secret is in no record and no log', { timeout: TEST_WITHIN_MS }, async () => {
      const person = await stage.person({ risky: true });
      const signIn = stage.begin();
      const callback = await person.signIn(signIn.url, { factor: true });
      const { json } = await stage.redeem(signIn, callback);
      const refreshed = await stage.token({ grant_type: 'refresh_token', refresh_token: json.refresh_token });
      assert.equal(refreshed.status, 200, JSON.stringify(refreshed.json));
      const secrets = {
        code: new URL(callback).searchParams.get('code'),
        state: signIn.state,
        verifier: signIn.verifier,
        password: stage.server.account.password,
        'access token': json.access_token,
        'refresh token': json.refresh_token,
        'ID token': json.id_token,
        username: stage.server.account.username,
      };
      const audit = path.join(stage.gateway.directory, 'data', 'audit.jsonl');
      const records = await until(async () => {
        const text = await readFile(audit, 'utf8');
        return text.includes('"refresh_token"') && text;
      }, 'the record of the refresh');
      for (const [what, secret] of Object.entries(secrets)) {
        assert.ok(secret, `no ${what}`);
        assert.ok(!records.includes(secret), `the audit log holds the ${what}`);
        assert.ok(!stage.gateway.process.log.includes(secret), `the log holds the ${what}`);
      }
    });
  });
}

describe('a demand in front of a provider that ignores it', () => {
  test('S4: tokens are withheld, and soon a page says what to do', { timeout: TEST_WITHIN_MS }, async () => {
    const stage = new Stage(provider({ secondFactor: false }));
    await stage.start();
    try {
      const person = await stage.person({ risky: true });
      for (let round = 0; round < 4; round += 1) {
        const signIn = stage.begin();
        person.authorizations = [];
        const callback = await person.signIn(signIn.url);
        const redirects = person.authorizations.filter((url) => new URL(url).searchParams.has('acr_values'));
        assert.ok(redirects.length <= 2, `${redirects.length} redirects`);
        if (callback === undefined) {
          assert.equal(person.status, 403);
          assert.match(await person.page.locator('main').textContent(), /second|factor|sign in/i);
          assert.ok(round > 0, 'the first time it is asked for');
          return;
        }
        const { status, json } = await stage.redeem(signIn, callback);
        assert.deepEqual([status, json.error, json.acr_values], [400, 'invalid_grant', MFA]);
      }
      assert.fail('it goes on and on');
    } finally {
      await stage.stop();
    }
  });
});

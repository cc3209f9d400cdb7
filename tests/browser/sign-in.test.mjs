// Sign-in through riskgate with a real browser: one factor, two factors, refused, held.
//
// riskgate enforces, with TLS at its own listener, in front of the simulated identity server. The
// policy decides by application, so that each test says what happens to it.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  after, before, describe, test,
} from 'node:test';
import { promisify } from 'node:util';

import { freePort, gatewayBinary, startGateway } from '../oidc/gateway.mjs';
import { CallbackServer, SignIn } from './application.mjs';
import { selfSigned } from './certificate.mjs';
import { launchChromium } from './chromium.mjs';
import {
  ALICE, BOB, startIdentityServer, totp,
} from './identity-server.mjs';
import { assertAccessible, assertDiscreet, assertInert } from './page-checks.mjs';

const TEST_WITHIN_MS = 120_000;

/** The application decides the verdict at the authorization endpoint; all else is allowed. */
const POLICY = `
version = 1

[[rule]]
name = "spa-needs-two-factors"
when = 'request.door == "authorize" && client.id == "demo-spa"'
verdict = "step_up"

[[rule]]
name = "consent-is-refused"
when = 'request.door == "authorize" && client.id == "demo-consent"'
verdict = "block"

[[rule]]
name = "opaque-is-held"
when = 'request.door == "authorize" && client.id == "demo-opaque"'
verdict = "review"

[[rule]]
name = "the-rest-is-allowed"
when = "true"
verdict = "allow"
`;

describe('sign-in with a browser through riskgate over TLS', () => {
  let directory;
  let ca;
  let origin;
  let upstreamPort;
  let identityServer;
  let gateway;
  let browser;
  const callbacks = new CallbackServer();

  before(async () => {
    directory = await mkdtemp(path.join(tmpdir(), 'riskgate-browser-'));
    const tls = await selfSigned(directory);
    ca = await readFile(tls.certificate);
    const port = await freePort();
    upstreamPort = await freePort();
    origin = `https://localhost:${port}`;
    identityServer = await startIdentityServer({ port: upstreamPort, publicUrl: origin });
    gateway = await startGateway({
      port,
      upstream: `http://127.0.0.1:${upstreamPort}`,
      mode: 'enforce',
      policy: POLICY,
      config: `[server.tls]\ncertificate = ${JSON.stringify(tls.certificate)}\nkey = ${JSON.stringify(tls.key)}`,
    });
    await callbacks.start();
    browser = await launchChromium();
  });

  after(async () => {
    await browser?.close();
    await callbacks.stop();
    await gateway?.stop();
    await identityServer?.stop();
    await rm(directory, { recursive: true, force: true });
  });

  const signInAt = (clientId) => new SignIn({
    ca, clientId, issuerOrigin: origin, redirectUri: callbacks.url,
  });

  async function enterPassword(page, user) {
    await page.waitForURL(/\/authenticationendpoint\/login\.do\?/);
    await page.locator('input:visible[name="usernameUserInput"], input:visible[name="username"]').fill(user.username);
    await page.locator('input[name="password"]').fill(user.password);
    await page.locator('[type="submit"]').first().click();
  }

  async function enterCode(page, user) {
    await page.waitForURL(/\/authenticationendpoint\/totp\.do\?/);
    await page.locator('input:visible').first().fill(totp(user.totpSecret));
    await page.locator('[type="submit"]').first().click();
  }

  async function landed(page) {
    await page.waitForURL((url) => url.href.startsWith(callbacks.url));
    assert.equal(await page.locator('h1').textContent(), 'Signed in');
    return page.url();
  }

  test('an allowed login ends at the application with one factor', { timeout: TEST_WITHIN_MS }, async () => {
    const profile = await browser.profile();
    const page = await profile.newPage();
    const signIn = signInAt('demo-web');
    await page.goto(signIn.authorizationUrl);
    await browser.screenshot(page, 'login');
    await enterPassword(page, ALICE);
    const { tokens, claims } = await signIn.redeem(await landed(page));
    assert.ok(tokens.access_token && tokens.refresh_token);
    assert.deepEqual(claims.amr, ['BasicAuthenticator']);
    assert.notEqual(claims.acr, 'urn:riskgate:acr:mfa');
    await profile.close();
  });

  test('a wrong password is said so, and the right one still signs in', { timeout: TEST_WITHIN_MS }, async () => {
    const profile = await browser.profile();
    const page = await profile.newPage();
    const signIn = signInAt('demo-web');
    await page.goto(signIn.authorizationUrl);
    await enterPassword(page, { ...BOB, password: 'not this one' });
    await page.waitForURL(/authFailure=true/);
    await enterPassword(page, BOB);
    await signIn.redeem(await landed(page));
    await profile.close();
  });

  test('a login that is stepped up ends with two factors in the ID token', { timeout: TEST_WITHIN_MS }, async () => {
    const profile = await browser.profile();
    const page = await profile.newPage();
    const signIn = signInAt('demo-spa');
    const authorizations = [];
    page.on('request', (request) => {
      if (request.url().startsWith(`${origin}/oauth2/authorize?`)) authorizations.push(new URL(request.url()));
    });
    await page.goto(signIn.authorizationUrl);

    // The challenge is a redirect to the same request with the required class added.
    assert.equal(authorizations[0].href, signIn.authorizationUrl);
    const challenge = authorizations[1]?.searchParams;
    assert.equal(challenge?.get('acr_values'), 'urn:riskgate:acr:mfa');
    assert.match(challenge.get('max_age') ?? '', /^\d+$/);
    for (const [name, value] of new URL(signIn.authorizationUrl).searchParams) assert.equal(challenge.get(name), value);

    await enterPassword(page, ALICE);
    await enterCode(page, ALICE);
    const { claims } = await signIn.redeem(await landed(page));
    assert.equal(claims.acr, 'urn:riskgate:acr:mfa');
    assert.ok(claims.amr.includes('totp'), `amr is ${JSON.stringify(claims.amr)}`);
    assert.ok(claims.amr.includes('BasicAuthenticator'), `amr is ${JSON.stringify(claims.amr)}`);
    await profile.close();
  });

  for (const { clientId, name, status, says } of [
    { clientId: 'demo-consent', name: 'block', status: [403], says: /refused|blocked|not allowed|denied|cannot/i },
    { clientId: 'demo-opaque', name: 'review', status: [202, 403], says: /review|held|checked/i },
  ]) {
    test(`the ${name} page is accessible, inert and discreet`, { timeout: TEST_WITHIN_MS }, async () => {
      const profile = await browser.profile({ javaScriptEnabled: true });
      const page = await profile.newPage();
      const signIn = signInAt(clientId);
      let response = await page.goto(signIn.authorizationUrl);
      // A page that waits would look again in the middle of this.
      if (name === 'review') response = await page.goto(`${page.url().split('?')[0]}?look=off`);
      assert.ok(status.includes(response.status()), `status ${response.status()}`);
      assert.match(await page.locator('main, [role=main]').textContent(), says);
      await browser.screenshot(page, name);
      await assertInert(page, response);
      await assertAccessible(page, response);
      await page.emulateMedia({ colorScheme: 'dark' });
      await assertAccessible(page, response);
      await browser.screenshot(page, `${name}-dark`);
      await page.emulateMedia({ colorScheme: 'light' });
      await assertDiscreet(response, {
        'the state': signIn.state,
        'the nonce': signIn.nonce,
        'the PKCE challenge': new URL(signIn.authorizationUrl).searchParams.get('code_challenge'),
        'the upstream': `127.0.0.1:${upstreamPort}`,
        'the rule': clientId === 'demo-consent' ? 'consent-is-refused' : 'opaque-is-held',
        'the data directory': gateway.directory,
      });
      // Nothing of the sign-in is left to go on with.
      assert.ok(!(await profile.cookies()).some((cookie) => /^(commonAuthId|sessionNonceCookie)/.test(cookie.name)), 'the request reached the identity server');

      await page.setViewportSize({ width: 320, height: 640 });
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.ok(overflow <= 0, `the page is ${overflow} pixels wider than a small screen`);
      await browser.screenshot(page, `${name}-small`);
      await profile.close();
    });
  }

  /** `riskgate review ...` at the gateway under test. */
  async function review(...args) {
    const { stdout } = await promisify(execFile)(gatewayBinary(), [
      'review', ...args, '--admin', new URL(gateway.adminUrl).host, '--data', path.join(gateway.directory, 'data'),
    ]);
    return stdout;
  }

  for (const javaScriptEnabled of [true, false]) {
    test(`a held login is released and signs in ${javaScriptEnabled ? 'with' : 'without'} script`, { timeout: 2 * TEST_WITHIN_MS }, async () => {
      const profile = await browser.profile({ javaScriptEnabled });
      const page = await profile.newPage();
      await page.goto(signInAt('demo-opaque').authorizationUrl);
      await page.getByRole('heading', { name: 'Sign-in held for review' }).waitFor();
      const waitsAt = page.url();
      const reference = (await page.locator('code').textContent()).trim();
      const { logins } = JSON.parse(await review('list', '--json'));
      assert.ok(logins.some(({ id }) => id.startsWith(reference)), `${reference} is not in the queue`);

      // The page looks again by itself.
      await review('release', reference, '--as', 'browser-test');
      await page.getByRole('heading', { name: 'You can sign in now' }).waitFor({ timeout: 20_000 });
      assert.equal(new URL(page.url()).pathname, new URL(waitsAt).pathname);
      await browser.screenshot(page, `released-${javaScriptEnabled}`);

      const signIn = signInAt('demo-opaque');
      await page.goto(signIn.authorizationUrl);
      await enterPassword(page, ALICE);
      const { tokens } = await signIn.redeem(await landed(page));
      assert.ok(tokens.access_token);
      await page.goto(waitsAt);
      await page.getByRole('heading', { name: 'This release is used up' }).waitFor();

      // It counted for one.
      const again = await browser.profile({ javaScriptEnabled });
      const elsewhere = await again.newPage();
      await elsewhere.goto(signInAt('demo-opaque').authorizationUrl);
      await elsewhere.getByRole('heading', { name: 'Sign-in held for review' }).waitFor();
      await again.close();
      await profile.close();
    });

    test(`a user forgets this browser ${javaScriptEnabled ? 'with' : 'without'} script`, { timeout: 2 * TEST_WITHIN_MS }, async () => {
      const profile = await browser.profile({ javaScriptEnabled });
      const page = await profile.newPage();
      const signIn = signInAt('demo-web');
      await page.goto(signIn.authorizationUrl);
      await enterPassword(page, BOB);
      await signIn.redeem(await landed(page));

      const device = async () => (await profile.cookies(origin)).find(({ name }) => name === '__Host-rg_device');
      const { value } = await device();
      // What a login teaches is there a moment later.
      let response;
      for (let tries = 0; tries < 600; tries += 1) {
        response = await page.goto(`${origin}/riskgate/devices`);
        if (await page.getByText('This browser').count() > 0) break;
        await new Promise((resolve) => { setTimeout(resolve, 100); });
      }
      assert.equal(response.status(), 200);
      await assertInert(page, response);
      await assertDiscreet(response, { 'the user': BOB.username, 'the cookie': value });
      if (javaScriptEnabled) {
        await assertAccessible(page, response);
        await page.emulateMedia({ colorScheme: 'dark' });
        await assertAccessible(page, response);
        await page.emulateMedia({ colorScheme: 'light' });
      }
      await browser.screenshot(page, `devices-${javaScriptEnabled}`);
      await page.locator('li', { hasText: 'This browser' }).getByRole('button', { name: 'Forget' }).click();
      await page.getByText('it is forgotten').waitFor();
      assert.equal(await page.getByText('This browser:').count(), 0);
      assert.equal(await device(), undefined);
      await profile.close();
    });
  }

  test('the page of approvals is accessible, inert and discreet, signed in or not', { timeout: 2 * TEST_WITHIN_MS }, async () => {
    const profile = await browser.profile();
    const page = await profile.newPage();
    const open = async () => {
      const response = await page.goto(`${origin}/riskgate/approve`);
      assert.equal(response.status(), 200);
      await assertInert(page, response);
      await assertAccessible(page, response);
      await assertDiscreet(response, { 'the user': BOB.username, 'the upstream': `127.0.0.1:${upstreamPort}` });
      return response;
    };
    await open();
    assert.equal(await page.locator('form').count(), 0, 'a stranger is given the form');

    const signIn = signInAt('demo-web');
    await page.goto(signIn.authorizationUrl);
    await enterPassword(page, BOB);
    await signIn.redeem(await landed(page));
    // What a login teaches is there a moment later.
    for (let tries = 0; tries < 600; tries += 1) {
      await page.goto(`${origin}/riskgate/approve`);
      if (await page.locator('form').count() > 0) break;
      await new Promise((resolve) => { setTimeout(resolve, 100); });
    }
    await open();
    await page.emulateMedia({ colorScheme: 'dark' });
    await open();
    await browser.screenshot(page, 'approve');
    await page.locator('input[name="number"]').fill('000000');
    await page.locator('[type="submit"], button').first().click();
    await page.waitForURL(/approved=1/);
    assert.equal(await page.locator('h1').count(), 1);
    await profile.close();
  });

  test('the device cookie is bound to the host, and comes back', { timeout: TEST_WITHIN_MS }, async () => {
    const profile = await browser.profile();
    const page = await profile.newPage();
    const first = signInAt('demo-web');
    await page.goto(first.authorizationUrl);
    await enterPassword(page, BOB);
    await first.redeem(await landed(page));

    const devices = (await profile.cookies(origin)).filter((cookie) => cookie.name.startsWith('__Host-'));
    assert.equal(devices.length, 1, `cookies: ${(await profile.cookies(origin)).map((cookie) => cookie.name)}`);
    const [device] = devices;
    assert.deepEqual(
      {
        secure: device.secure, httpOnly: device.httpOnly, sameSite: device.sameSite, path: device.path, domain: device.domain,
      },
      {
        secure: true, httpOnly: true, sameSite: 'None', path: '/', domain: 'localhost',
      },
    );
    assert.ok(device.expires > Date.now() / 1000 + 24 * 3600, 'the device is forgotten within a day');
    assert.ok(!decodeURIComponent(device.value).includes(BOB.username), 'the cookie names the user');

    const second = signInAt('demo-web');
    const again = page.waitForRequest((request) => request.url() === second.authorizationUrl);
    await page.goto(second.authorizationUrl);
    const { cookie } = await (await again).allHeaders();
    assert.ok(cookie?.split('; ').includes(`${device.name}=${device.value}`), `the browser sent ${cookie}`);
    await second.redeem(await landed(page));

    const another = await browser.profile();
    const elsewhere = await another.newPage();
    await elsewhere.goto(signInAt('demo-web').authorizationUrl);
    await enterPassword(elsewhere, BOB);
    await landed(elsewhere);
    const other = (await another.cookies(origin)).find((candidate) => candidate.name === device.name);
    assert.ok(other !== undefined && other.value !== device.value, 'two browsers are the same device');
    await another.close();
    await profile.close();
  });

  test('riskgate ends on SIGTERM with exit code 0', { timeout: TEST_WITHIN_MS }, async () => {
    const running = gateway;
    gateway = undefined;
    assert.equal(await running.stop(), 0, running.process.log);
  });
});

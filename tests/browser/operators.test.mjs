// Operators who sign in to the console by a provider, in a real browser: at a certified provider on another site than the
// console, with and without script, there and back, out again, and not at all without a role.

import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  after, before, describe, test,
} from 'node:test';

import { freePort, startGateway } from '../oidc/gateway.mjs';
import { ACCOUNT, clientSecret, providerHandler } from '../oidc/provider.mjs';
import { launchChromium } from './chromium.mjs';
import { assertAccessible, assertDiscreet } from './page-checks.mjs';

const TEST_WITHIN_MS = 120_000;
const SIGN_OUT_THERE = 'Sign out of the provider';

describe('operators who come by a provider', () => {
  /** What the provider says of the account. */
  const roles = ['everyone'];
  let browser;
  let directory;
  let gateway;
  let issuer;
  let origin;
  let server;

  before(async () => {
    directory = await mkdtemp(path.join(tmpdir(), 'riskgate-operators-'));
    const [port, admin, providerPort] = [await freePort(), await freePort(), await freePort()];
    // One machine, two sites: what is sent from one to the other is cross-site.
    origin = `http://localhost:${admin}`;
    issuer = `http://127.0.0.1:${providerPort}`;
    server = http.createServer(providerHandler(issuer, { console: origin, roles }));
    await new Promise((resolve) => { server.listen(providerPort, '127.0.0.1', resolve); });
    const secret = path.join(directory, 'secret');
    await writeFile(secret, clientSecret('portal'));
    gateway = await startGateway({
      port,
      admin,
      upstream: issuer,
      config: `[admin]
origin = "${origin}"

[admin.oidc]
issuer = "${issuer}/oauth2/token"
client_id = "console"
client_secret_file = ${JSON.stringify(secret)}

[admin.oidc.roles]
analyst = ["risk-analyst"]
`,
    });
    browser = await launchChromium();
  });

  after(async () => {
    await browser?.close();
    await gateway?.stop();
    server?.closeAllConnections();
    await new Promise((resolve) => { server.close(resolve); });
    await rm(directory, { recursive: true, force: true });
  });

  /** From a page of the console to the provider, through its forms, to where it leads back. */
  async function signIn(page, hasScript = true) {
    const response = await page.goto(`${origin}/console/model`);
    // What looks at a page is a script itself.
    if (hasScript) await assertAccessible(page, response);
    await page.getByRole('button', { name: 'Sign in with 127.0.0.1' }).click();
    await page.waitForURL(/\/authenticationendpoint\/login\.do\?/);
    assert.equal(new URL(page.url()).origin, issuer);
    await page.locator('input[name="username"]').fill(ACCOUNT.username);
    await page.locator('input[name="password"]').fill(ACCOUNT.password);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('button', { name: 'Approve' }).click();
  }

  for (const javaScriptEnabled of [true, false]) {
    test(`there and back ${javaScriptEnabled ? 'with' : 'without'} script, and out again`, { timeout: TEST_WITHIN_MS }, async () => {
      roles.splice(0, roles.length, 'everyone', 'risk-analyst');
      const profile = await browser.profile({ javaScriptEnabled });
      const page = await profile.newPage();
      await signIn(page, javaScriptEnabled);
      // The session's cookie is one for the same site alone, and is sent all the same.
      await page.waitForURL(`${origin}/console/model`);
      await page.getByText(`oidc:${ACCOUNT.sub} (analyst)`).waitFor();
      const [cookie, ...others] = (await profile.cookies(origin)).filter(({ name }) => name.startsWith('rg_console'));
      assert.deepEqual([cookie.name, cookie.sameSite, cookie.httpOnly, others], ['rg_console', 'Strict', true, []]);

      await page.getByRole('button', { name: 'Sign out' }).click();
      const there = page.getByRole('link', { name: SIGN_OUT_THERE });
      await there.waitFor();
      assert.equal((await profile.cookies(origin)).some(({ name }) => name === 'rg_console'), false);
      const address = new URL(await there.getAttribute('href'));
      assert.equal(address.origin + address.pathname, `${issuer}/oidc/logout`);
      const response = await page.goto(address.href);
      assert.equal(response.status(), 200, 'the provider takes the address');
      await profile.close();
    });
  }

  test('without a role nobody is let in, and the page says what to do', { timeout: TEST_WITHIN_MS }, async () => {
    roles.splice(0, roles.length, 'everyone');
    const profile = await browser.profile();
    const page = await profile.newPage();
    const back = page.waitForResponse((response) => response.url().startsWith(`${origin}/console/sign-in/callback?`));
    await signIn(page);
    const response = await back;
    assert.equal(response.status(), 403);
    // A certified provider names itself (RFC 9207).
    assert.equal(new URL(response.url()).searchParams.get('iss'), `${issuer}/oauth2/token`);
    await page.getByRole('heading', { name: 'Not signed in' }).waitFor();
    await assertAccessible(page, response);
    await assertDiscreet(response, {
      'the code': new URL(response.url()).searchParams.get('code'),
      'the secret': clientSecret('portal'),
    });
    assert.deepEqual((await profile.cookies(origin)).filter(({ name }) => name.startsWith('rg_console') && name !== 'rg_console_form'), []);
    await profile.close();
  });
});

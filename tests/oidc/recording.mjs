// Records HTTP exchanges at both ends, byte for byte.
//
// The client end (`Recorder.send`) and the server end (`recordingServer`) each keep what went over
// their own socket. A marker header numbers the exchanges, so that the two ends can be paired and
// a request that was lost, repeated or invented between them shows. It compares nothing.

import http from 'node:http';

/** Request header by which an exchange at the client is found again at the server. */
export const MARKER = 'x-test-exchange';

const ANSWER_WITHIN_MS = 60_000;

/** Splits the head that Node wrote to the socket into its lines: `[first line, [name, value]...]`. */
function parseHead(head) {
  const [first, ...lines] = head.trimEnd().split('\r\n');
  return {
    first,
    headers: lines.map((line) => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
    }),
  };
}

function pairs(rawHeaders) {
  const list = [];
  for (let i = 0; i < rawHeaders.length; i += 2) list.push([rawHeaders[i].toLowerCase(), rawHeaders[i + 1]]);
  return list;
}

/** The client end: sends requests to `origin` and keeps every exchange. */
export class Recorder {
  exchanges = [];

  #agent = new http.Agent({ keepAlive: true });

  #number = 0;

  /** One request, redirects not followed; `body` is a string or undefined. */
  send(url, { method = 'GET', headers = {}, body } = {}) {
    this.#number += 1;
    const number = String(this.#number);
    return new Promise((resolve, reject) => {
      const request = http.request(url, {
        agent: this.#agent, family: 4, headers: { ...headers, [MARKER]: number }, method, timeout: ANSWER_WITHIN_MS,
      }, (response) => {
        const chunks = [];
        response.on('data', (chunk) => { chunks.push(chunk); });
        response.on('error', reject);
        response.on('end', () => {
          // `_header` is the head as it was written, with what Node added to it.
          const head = parseHead(request._header);
          const exchange = {
            number,
            request: {
              method, target: head.first.split(' ')[1], headers: head.headers, body: Buffer.from(body ?? ''),
            },
            response: { status: response.statusCode, headers: pairs(response.rawHeaders), body: Buffer.concat(chunks) },
          };
          this.exchanges.push(exchange);
          resolve(exchange);
        });
      });
      request.on('timeout', () => { request.destroy(new Error(`no answer to ${method} ${url} within ${ANSWER_WITHIN_MS} ms`)); });
      request.on('error', reject);
      request.end(body);
    });
  }

  /** `fetch` for openid-client, over `send`. */
  fetch = async (url, { method, headers, body } = {}) => {
    const text = body === undefined || body === null ? undefined : String(body);
    const sent = Object.fromEntries(new Headers(headers));
    if (text !== undefined) sent['content-length'] = String(Buffer.byteLength(text));
    const { response } = await this.send(url, { method, headers: sent, body: text });
    const bodiless = [204, 205, 304].includes(response.status);
    const answer = new Response(bodiless ? null : response.body, { status: response.status, headers: response.headers });
    Object.defineProperty(answer, 'url', { value: String(url) });
    return answer;
  };

  close() {
    this.#agent.destroy();
  }
}

/** What the server end saw of one exchange. Read it when the client has the answer. */
class Served {
  #received = [];

  #answered = [];

  #res;

  #request;

  constructor(req, res) {
    this.number = req.headers[MARKER];
    this.#res = res;
    this.#request = { method: req.method, target: req.url, headers: pairs(req.rawHeaders) };

    // The body is noted where the parser hands it over, so that the handler reads it as ever.
    const push = req.push.bind(req);
    req.push = (chunk, encoding) => {
      if (chunk) this.#received.push(Buffer.from(chunk));
      return push(chunk, encoding);
    };
    const note = (chunk, encoding) => {
      if (chunk && typeof chunk !== 'function') this.#answered.push(Buffer.from(chunk, typeof encoding === 'string' ? encoding : undefined));
    };
    const write = res.write.bind(res);
    const end = res.end.bind(res);
    res.write = (chunk, ...rest) => { note(chunk, rest[0]); return write(chunk, ...rest); };
    res.end = (chunk, ...rest) => {
      note(chunk, rest[0]);
      // `end` may call `write` inside Node itself, which must not be noted a second time.
      res.write = write;
      return end(chunk, ...rest);
    };
  }

  get request() {
    return { ...this.#request, body: Buffer.concat(this.#received) };
  }

  get response() {
    const { headers } = parseHead(this.#res._header ?? '');
    return { status: this.#res.statusCode, headers, body: Buffer.concat(this.#answered) };
  }
}

/**
 * The server end: listens on `127.0.0.1:port` and keeps every exchange of the handler it serves.
 *
 * `serve(handler)` begins a new recording: `exchanges` maps the marker to the exchange; what came without a
 * marker, or with one a second time, is in `others`.
 */
export async function recordingServer(port) {
  let recording;
  const server = http.createServer((req, res) => {
    const exchange = new Served(req, res);
    if (exchange.number === undefined || recording.exchanges.has(exchange.number)) recording.others.push(exchange);
    else recording.exchanges.set(exchange.number, exchange);
    recording.handler(req, res);
  });
  // Longer than any test, so that a connection which a gateway keeps is not closed under it.
  server.keepAliveTimeout = 60_000;
  await new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
  return {
    port,
    /** The recording of the handler that is served now. */
    get last() {
      return recording;
    },
    serve(handler) {
      recording = { handler, exchanges: new Map(), others: [] };
      return recording;
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => { server.close(resolve); });
    },
  };
}

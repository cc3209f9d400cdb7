// The verifiers of examples/verify-assertion, in Rust, Node, Python and Java: each takes the assertions of a running riskgate
// and refuses everything that only looks like one.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import {
  copyFile, mkdtemp, rm,
} from 'node:fs/promises';
import http from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  after, before, describe, test,
} from 'node:test';
import { promisify } from 'node:util';

import * as jose from 'jose';

import {
  REPOSITORY, ServerProcess, freePort, startGateway,
} from './gateway.mjs';

const TEST_WITHIN_MS = 120_000;
const RUN_WITHIN_MS = 60_000;

const ISSUER = 'riskgate';
const AUDIENCE = 'https://orders.example.com';
const TYPE = 'risk-assertion+jwt';
const EXAMPLES = path.join(REPOSITORY, 'examples/verify-assertion');
const GSON = '/usr/share/java/gson.jar';

const run = promisify(execFile);

/** A server that answers with what `answer` says; `close` ends it. */
async function serve(answer) {
  const server = http.createServer((request, response) => {
    const body = answer(request);
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
    response.end(body);
  });
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    close: () => new Promise((resolve) => { server.close(resolve); server.closeAllConnections(); }),
  };
}

/** Key pairs with their published half, as riskgate publishes them. */
async function keyPair(alg, kid) {
  const { publicKey, privateKey } = await jose.generateKeyPair(alg, { extractable: true });
  const jwk = {
    ...await jose.exportJWK(publicKey), alg, kid, use: 'sig',
  };
  return {
    alg, kid, jwk, privateKey,
  };
}

function claims(changes = {}) {
  const now = Math.floor(Date.now() / 1000);
  return {
    iss: ISSUER, aud: AUDIENCE, sub: 'alice', client_id: 'web', jti: 'j-1', iat: now, exp: now + 30, risk_status: 'scored', risk_score: 63, ...changes,
  };
}

async function signed(key, payload, header = {}) {
  return new jose.SignJWT(payload)
    .setProtectedHeader({
      alg: key.alg, kid: key.kid, typ: TYPE, ...header,
    })
    .sign(key.privateKey);
}

function encoded(value) {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

describe('an assertion is verified', () => {
  let folder;
  let verifiers;
  const open = [];

  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'riskgate-verifiers-'));
    const python = process.env.AUTHLIB_PYTHON;
    assert.ok(python, 'AUTHLIB_PYTHON is not set: run scripts/test-node.sh');
    // Beside the installed modules, so that the very file of the example finds jose.
    const script = path.join(REPOSITORY, 'tests/oidc/node_modules/.verify-assertion.mjs');
    await copyFile(path.join(EXAMPLES, 'verify.mjs'), script);
    await run('javac', ['-cp', GSON, '-d', folder, path.join(EXAMPLES, 'Verify.java')], { timeout: TEST_WITHIN_MS });
    const rust = path.resolve(REPOSITORY, process.env.VERIFY_ASSERTION_BIN ?? 'target/debug/examples/verify-assertion');
    verifiers = {
      rust: (args) => run(rust, args, { timeout: RUN_WITHIN_MS }),
      node: (args) => run(process.execPath, [script, ...args], { timeout: RUN_WITHIN_MS }),
      python: (args) => run(python, [path.join(EXAMPLES, 'verify.py'), ...args], {
        timeout: RUN_WITHIN_MS, env: { ...process.env, NO_PROXY: '127.0.0.1', no_proxy: '127.0.0.1' },
      }),
      java: (args) => run('java', ['-XX:TieredStopAtLevel=1', '-cp', `${folder}:${GSON}`, 'Verify', ...args], { timeout: RUN_WITHIN_MS }),
    };
  });
  after(async () => {
    for (const close of open.reverse()) await close();
    await rm(folder, { recursive: true, force: true });
    await rm(path.join(REPOSITORY, 'tests/oidc/node_modules/.verify-assertion.mjs'), { force: true });
  });

  /** Why each verifier last refused. */
  const why = {};

  /** What each verifier says: its claims, or that it refused. */
  async function verdicts(url, assertion) {
    const found = Object.entries(verifiers).map(async ([name, verify]) => {
      try {
        const { stdout } = await verify([url, ISSUER, AUDIENCE, assertion]);
        return [name, JSON.parse(stdout)];
      } catch (error) {
        why[name] = error.stderr;
        assert.equal(error.code, 1, `${name}: ${error.stderr ?? error}`);
        assert.ok(error.stderr.length > 0, `${name} says why`);
        return [name, 'refused'];
      }
    });
    return Object.fromEntries(await Promise.all(found));
  }

  test('that riskgate has signed', { timeout: TEST_WITHIN_MS }, async () => {
    let assertion;
    const service = await serve((request) => {
      assertion = request.headers['x-risk-assertion'];
      return '{}';
    });
    open.push(service.close);
    const [port, simPort] = [await freePort(), await freePort()];
    const origin = `http://127.0.0.1:${port}`;
    const sim = new ServerProcess(
      path.resolve(REPOSITORY, process.env.WSO2_SIM_BIN ?? 'target/debug/wso2-sim'),
      ['--listen', `127.0.0.1:${simPort}`, '--public-url', origin],
    );
    open.push(() => sim.stop());
    await sim.readyAt(`http://127.0.0.1:${simPort}/oauth2/token/.well-known/openid-configuration`);
    const gateway = await startGateway({
      port,
      upstream: `http://127.0.0.1:${simPort}`,
      mode: 'enforce',
      policy: 'version = 1\n[[rule]]\nname = "all"\nwhen = "true"\nverdict = "allow"\n',
      config: `[[resource]]\nprefix = "/orders"\nupstream = "${service.url}"\naudience = "${AUDIENCE}"\ntoken_audiences = ["demo-service"]\nmax_level = "high"\n`,
    });
    open.push(() => gateway.stop());
    const issued = await fetch(`${origin}/oauth2/token`, {
      method: 'POST',
      headers: { authorization: `Basic ${Buffer.from('demo-service:demo-service-secret').toString('base64')}` },
      body: new URLSearchParams({ grant_type: 'client_credentials', scope: 'orders:read' }),
    });
    const { access_token: token } = await issued.json();
    const answer = await fetch(`${origin}/orders/7`, { headers: { authorization: `Bearer ${token}` } });
    assert.equal(answer.status, 200, await answer.text());
    assert.ok(assertion, 'the service got an assertion');
    for (const [name, found] of Object.entries(await verdicts(`${origin}/riskgate/jwks.json`, assertion))) {
      assert.notEqual(found, 'refused', `${name}: ${why[name]}`);
      assert.equal(found.client_id, 'demo-service', name);
      assert.equal(found.risk_status, 'scored', name);
      assert.ok(Number.isInteger(found.risk_score), name);
    }
    // The access token itself is none.
    for (const [name, found] of Object.entries(await verdicts(`${origin}/riskgate/jwks.json`, token))) {
      assert.equal(found, 'refused', name);
    }
  });

  test('and nothing that only looks like one', { timeout: TEST_WITHIN_MS }, async () => {
    const [ec, rsa, ed] = await Promise.all([keyPair('ES256', 'ec'), keyPair('RS256', 'rsa'), keyPair('EdDSA', 'ed')]);
    const foreign = { ...await keyPair('ES256', 'ec'), kid: 'ec' };
    const keys = JSON.stringify({ keys: [ec.jwk, rsa.jwk, ed.jwk] });
    const server = await serve(() => keys);
    open.push(server.close);
    for (const key of [ec, rsa, ed]) {
      const found = await verdicts(server.url, await signed(key, claims()));
      for (const [name, one] of Object.entries(found)) assert.equal(one.sub, 'alice', `${name}, ${key.alg}`);
    }
    const now = Math.floor(Date.now() / 1000);
    const good = await signed(ec, claims());
    const [, body, signature] = good.split('.');
    const secret = new TextEncoder().encode(JSON.stringify(rsa.jwk));
    const bad = {
      'another audience': await signed(ec, claims({ aud: 'https://billing.example.com' })),
      'another issuer': await signed(ec, claims({ iss: 'https://login.example.com' })),
      expired: await signed(ec, claims({ iat: now - 90, exp: now - 60 })),
      'without an end': await signed(ec, claims({ exp: undefined })),
      'alg none': `${encoded({ alg: 'none', typ: TYPE, kid: 'ec' })}.${body}.`,
      'another key under the same id': await signed(foreign, claims()),
      'a key that is not published': await signed({ ...foreign, kid: 'other' }, claims()),
      'another type': await signed(ec, claims(), { typ: 'at+jwt' }),
      'no type': await signed(ec, claims(), { typ: undefined }),
      'a secret in place of a key': await new jose.SignJWT(claims()).setProtectedHeader({ alg: 'HS256', kid: 'rsa', typ: TYPE }).sign(secret),
      changed: `${good.split('.')[0]}.${encoded(claims({ risk_score: 0 }))}.${signature}`,
      'no JWT': 'x',
    };
    for (const [what, assertion] of Object.entries(bad)) {
      const found = await verdicts(server.url, assertion);
      assert.deepEqual(found, {
        rust: 'refused', node: 'refused', python: 'refused', java: 'refused',
      }, what);
    }
  });
});

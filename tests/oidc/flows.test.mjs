// A certified OpenID provider behind riskgate: every flow passes unchanged, but for the risk in introspection answers.
//
// Each flow runs first with the provider on the public port itself, then with riskgate on that port
// and the provider behind it. Behind riskgate every exchange must arrive byte for byte at the other
// end, and the whole flow must look as it did without riskgate.

import assert from 'node:assert/strict';
import {
  after, before, describe, test,
} from 'node:test';

import {
  belongsToGateway, hopDifferences, isScored, shape, shapeDifferences,
} from './compare.mjs';
import { FLOWS, Party } from './flows.mjs';
import { freePort, startGateway } from './gateway.mjs';
import { providerHandler } from './provider.mjs';
import { recordingServer } from './recording.mjs';

const FLOW_WITHIN_MS = 120_000;
const STOPPED_WITHIN_MS = 60_000;

const publicPort = await freePort();
const origin = `http://localhost:${publicPort}`;

/** The shape of each flow without riskgate, by its name. */
const direct = new Map();

/** Plays `flow` against a fresh provider behind `server`; gives both ends of all exchanges. */
async function play(server, flow) {
  const recording = server.serve(providerHandler(origin));
  const party = new Party(origin);
  try {
    await flow(party);
  } finally {
    party.close();
  }
  return { sent: party.recorder.exchanges, recording };
}

/** What riskgate adds to an introspection answer in `enforce`. */
const RISK = /,"risk_score":\d+,"risk_level":"(?:low|medium|high)","risk_reasons":\[[^\]]*\],"risk_status":"scored"(?=}$)/;

/** An introspection without the risk in its answer, which has another length with it; other exchanges as they are. */
function withoutRisk(exchange) {
  if (exchange.request.target !== '/oauth2/introspect') return exchange;
  const { number, request, response } = exchange;
  return {
    number,
    request,
    response: {
      status: response.status,
      body: Buffer.from(response.body.toString('latin1').replace(RISK, ''), 'latin1'),
      headers: response.headers.filter(([name]) => !['content-length', 'transfer-encoding'].includes(name)),
    },
  };
}

/** Asserts that what was sent is what arrived, once each, in both directions. */
function assertUnchanged({ sent, recording }) {
  const differences = sent.flatMap((exchange) => {
    const arrived = recording.exchanges.get(exchange.number);
    if (arrived === undefined) return [`${exchange.request.method} ${exchange.request.target}: did not arrive`];
    return hopDifferences(withoutRisk(exchange), withoutRisk(arrived));
  });
  assert.deepEqual(differences, []);
  assert.equal(recording.exchanges.size, sent.length, 'requests arrived that nobody sent');
}

const ALLOW_ALL = `
version = 1

[[rule]]
name = "allow-all"
when = "true"
verdict = "allow"
`;

describe('the provider reached directly', () => {
  let server;
  before(async () => { server = await recordingServer(publicPort); });
  after(async () => { await server?.close(); });

  for (const [name, flow] of Object.entries(FLOWS)) {
    test(name, { timeout: FLOW_WITHIN_MS }, async () => {
      const played = await play(server, flow);
      assertUnchanged(played);
      assert.deepEqual(played.recording.others, []);
      direct.set(name, shape(played.sent.map(withoutRisk)));
    });
  }
});

for (const { mode, policy } of [{ mode: 'monitor' }, { mode: 'enforce', policy: ALLOW_ALL }]) {
  describe(`the provider behind riskgate in mode ${mode}`, () => {
    let server;
    let gateway;
    before(async () => {
      const upstreamPort = await freePort();
      server = await recordingServer(upstreamPort);
      server.serve(providerHandler(origin));
      gateway = await startGateway({
        port: publicPort, upstream: `http://127.0.0.1:${upstreamPort}`, mode, policy,
      });
    });
    after(async () => {
      try {
        await gateway?.stop();
      } finally {
        await server?.close();
      }
    });

    for (const [name, flow] of Object.entries(FLOWS)) {
      test(`${name}: passes unchanged`, { timeout: FLOW_WITHIN_MS }, async () => {
        const played = await play(server, flow);
        assertUnchanged(played);
        assert.ok(direct.has(name), 'the flow failed without riskgate');
        assert.deepEqual(shapeDifferences(direct.get(name), shape(played.sent.map(withoutRisk))), []);

        // What riskgate asks the provider for itself may only be public metadata.
        for (const { request } of played.recording.others) {
          assert.equal(request.method, 'GET');
          assert.match(request.target, /^\/oauth2\/(jwks|token\/\.well-known\/openid-configuration)$/);
        }
        // What introspection tells of an active token is told in enforce mode alone.
        for (const { request, response } of played.sent.filter(({ request: one }) => one.target === '/oauth2/introspect')) {
          const body = response.body.toString();
          const tells = mode === 'enforce' && body.includes('"active":true');
          assert.equal(RISK.test(body), tells, `${request.method} ${request.target}: ${body}`);
        }
        // On scored doors the provider is always told, and told once.
        for (const { request } of [...played.recording.exchanges.values()].filter(({ request: one }) => isScored(one))) {
          const statuses = request.headers.filter(([header]) => header === 'x-risk-status');
          assert.equal(statuses.length, 1, `X-Risk-Status ${statuses.length} times on ${request.method} ${request.target}`);
          assert.match(statuses[0][1], /^(scored|unscored)$/);
          // In monitor mode the provider learns nothing else; in enforce mode it gets the verdict.
          const others = request.headers.map(([header]) => header).filter((header) => header.startsWith('x-risk-') && header !== 'x-risk-status');
          if (mode === 'monitor') assert.deepEqual(others, []);
          else assert.equal(others.filter((header) => header === 'x-risk-verdict').length, 1);
        }
      });
    }

    test('headers that belong to riskgate do not pass from the client', { timeout: FLOW_WITHIN_MS }, async () => {
      const forged = [
        'X-Risk-Score', 'X_Risk_Score', 'X-Risk-Level', 'X-Risk-Verdict', 'X-Risk-Status', 'X-Risk-Reasons', 'X-Risk-Decision-Id',
        'X-Forwarded-For', 'X-Forwarded-Host', 'X-Forwarded-Proto', 'Forwarded', 'X-Real-IP', 'activityid',
      ];
      const played = await play(server, async (party) => {
        const headers = Object.fromEntries(forged.map((name) => [name, 'forged']));
        await party.recorder.send(`${origin}/oauth2/authorize?client_id=portal&response_type=code&prompt=none`, { headers });
        await party.recorder.send(`${origin}/oauth2/jwks`, { headers });
      });
      assert.equal(played.recording.exchanges.size, 2);
      for (const { request } of played.recording.exchanges.values()) {
        const passed = request.headers.filter(([, value]) => value.includes('forged'));
        assert.deepEqual(passed, [], `forged headers arrived at ${request.target}`);
        assert.ok(request.headers.some(([name]) => belongsToGateway(name)), 'riskgate set no header of its own');
      }
    });

    test('riskgate ends on SIGTERM with exit code 0', { timeout: STOPPED_WITHIN_MS }, async () => {
      const running = gateway;
      gateway = undefined;
      assert.equal(await running.stop(), 0, running.process.log);
    });
  });
}

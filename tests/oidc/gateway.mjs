// Starts one riskgate as a child process and stops it again.
//
// For both Node suites. It writes the configuration file, waits for readiness on the admin
// listener and insists on a clean end. It must not know what the tests check.

import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url));

const READY_WITHIN_MS = 90_000;
const STOPPED_WITHIN_MS = 60_000;
const LOG_CHARS_MAX = 64 * 1024;
// Below those that the system gives to outgoing connections, which begin at 32,768.
const FIRST_PORT = 12_000;
const PORTS = 20_000;

// Files that are tested side by side begin at different places.
let nextPort = (process.pid * 61) % PORTS;

/** The binary under test: `RISKGATE_BIN`, else the debug build. */
export function gatewayBinary() {
  return path.resolve(REPOSITORY, process.env.RISKGATE_BIN ?? 'target/debug/riskgate');
}

/** A TCP port of 127.0.0.1 that nobody listened on a moment ago. */
export async function freePort() {
  for (let tries = 0; tries < PORTS; tries += 1) {
    const port = FIRST_PORT + ((nextPort += 1) % PORTS);
    if (await isFree(port)) return port;
  }
  throw new Error('no port is free');
}

function isFree(port) {
  return new Promise((resolve) => {
    const server = net.createServer();
    server.once('error', () => { resolve(false); });
    server.listen(port, '127.0.0.1', () => { server.close(() => { resolve(true); }); });
  });
}

/** The status of `GET url`, or 0 when nobody answers within five seconds. */
async function statusOf(url) {
  return new Promise((resolve) => {
    const request = http.get(url, { agent: false, timeout: 5000 }, (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    request.on('timeout', () => { request.destroy(); });
    request.on('error', () => { resolve(0); });
  });
}

/**
 * A child process that serves HTTP: started, ready, stopped by SIGTERM.
 *
 * Its output is kept (the last 64 KiB) and shown only when something goes wrong.
 */
export class ServerProcess {
  #child;

  #exited;

  #log = '';

  constructor(binary, args, { env = {} } = {}) {
    this.name = path.basename(binary);
    this.#child = spawn(binary, args, {
      cwd: REPOSITORY,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const keep = (chunk) => { this.#log = (this.#log + chunk).slice(-LOG_CHARS_MAX); };
    this.#child.stdout.setEncoding('utf8').on('data', keep);
    this.#child.stderr.setEncoding('utf8').on('data', keep);
    this.#exited = new Promise((resolve) => {
      this.#child.once('error', (error) => { resolve(`could not be started: ${error.message}`); });
      this.#child.once('exit', (code, signal) => { resolve(code ?? signal); });
    });
  }

  get log() {
    return this.#log;
  }

  /** Resolves when `GET url` answers 200; rejects when the process ends first or time runs out. */
  async readyAt(url) {
    const until = Date.now() + READY_WITHIN_MS;
    let ended;
    this.#exited.then((how) => { ended = how; });
    for (;;) {
      const status = await statusOf(url);
      if (status === 200) return;
      if (ended !== undefined) {
        throw new Error(`${this.name} ended before it was ready (${ended}):\n${this.#log}`);
      }
      if (Date.now() > until) {
        this.#child.kill('SIGKILL');
        throw new Error(`${this.name} not ready at ${url} within ${READY_WITHIN_MS} ms (last status ${status}):\n${this.#log}`);
      }
      await new Promise((resolve) => { setTimeout(resolve, 50); });
    }
  }

  /** Sends SIGTERM and returns the exit code; a process that ignores it is killed and is an error. */
  async stop() {
    this.#child.kill('SIGTERM');
    let timer;
    const late = new Promise((resolve) => { timer = setTimeout(resolve, STOPPED_WITHIN_MS, 'late'); });
    const how = await Promise.race([this.#exited, late]);
    clearTimeout(timer);
    if (how === 'late') {
      this.#child.kill('SIGKILL');
      throw new Error(`${this.name} did not end within ${STOPPED_WITHIN_MS} ms of SIGTERM:\n${this.#log}`);
    }
    return how;
  }
}

/**
 * Starts riskgate on `port` in front of `upstream` and waits until it is ready.
 *
 * Without `mode` the configuration says whom verdicts are acted on for. `policy` is the text of a policy file (else the shipped one is used), `config` further lines of
 * the configuration file, `geo` a folder of address databases, `args` further flags of the command, `admin` the port of the admin listener where it must be known before. The returned object has `process`, `directory`, `adminUrl` and `stop()`, which gives the
 * exit code and removes the directory.
 */
export async function startGateway({
  port, upstream, mode, policy, config = '', args = [], admin: wanted, geo = path.join(REPOSITORY, 'tests/data/geo'),
}) {
  const directory = await mkdtemp(path.join(tmpdir(), 'riskgate-node-'));
  const admin = wanted ?? await freePort();
  const actions = await freePort();
  // No client is left when a test stops it, so there is nothing to wait for.
  const lines = ['[server]', 'drain_seconds = 0', 'grace_seconds = 1'];
  // A busy machine must not turn a test of behaviour into a test of speed.
  lines.push('', '[score]', 'budget_ms = 10000');
  // The small databases of the tests: the real ones take seconds to load in a debug build.
  lines.push(
    '',
    '[geo]',
    `country = ${JSON.stringify(path.join(geo, 'country.mmdb'))}`,
    `city = [${['city-ipv4.mmdb', 'city-ipv6.mmdb'].map((file) => JSON.stringify(path.join(geo, file))).join(', ')}]`,
    `asn = ${JSON.stringify(path.join(geo, 'asn.csv'))}`,
    `kinds = ${JSON.stringify(path.join(geo, 'network-kinds.csv'))}`,
  );
  if (policy !== undefined) {
    const policyFile = path.join(directory, 'policy.toml');
    await writeFile(policyFile, policy);
    lines.push('', '[policy]', `file = ${JSON.stringify(policyFile)}`);
  }
  const configFile = path.join(directory, 'riskgate.toml');
  await writeFile(configFile, `${lines.join('\n')}\n\n${config}\n`);

  const child = new ServerProcess(gatewayBinary(), [
    'run', '-c', configFile,
    '--listen', `127.0.0.1:${port}`,
    '--upstream', upstream,
    '--admin', `127.0.0.1:${admin}`,
    '--actions', `127.0.0.1:${actions}`,
    '--data', path.join(directory, 'data'),
    ...(mode === undefined ? [] : ['--mode', mode]),
    ...args,
  ]);
  const adminUrl = `http://127.0.0.1:${admin}`;
  try {
    await child.readyAt(`${adminUrl}/health/ready`);
  } catch (error) {
    await rm(directory, { recursive: true, force: true });
    throw error;
  }
  return {
    adminUrl,
    directory,
    process: child,
    async stop() {
      try {
        return await child.stop();
      } finally {
        await rm(directory, { recursive: true, force: true });
      }
    },
  };
}

/** `riskgate operator add` at a gateway of `startGateway`. */
export async function addOperator({ directory }, name, role, password) {
  const child = spawn(gatewayBinary(), ['operator', 'add', name, '--role', role, '--data', path.join(directory, 'data')], {
    stdio: ['pipe', 'ignore', 'pipe'],
  });
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text) => { errors += text; });
  child.stdin.end(`${password}\n`);
  const code = await new Promise((resolve) => { child.once('exit', resolve); });
  if (code !== 0) throw new Error(`riskgate operator add ended with ${code}: ${errors}`);
}

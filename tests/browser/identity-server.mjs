// The simulated identity server (`wso2-sim`) as a child process, and what its users need to sign in.
//
// User names, passwords and secrets are the published test data of the simulator.

import { createHmac } from 'node:crypto';
import path from 'node:path';

import { REPOSITORY, ServerProcess } from '../oidc/gateway.mjs';

/** The simulator binary: `WSO2_SIM_BIN`, else the debug build. */
function simulatorBinary() {
  return path.resolve(REPOSITORY, process.env.WSO2_SIM_BIN ?? 'target/debug/wso2-sim');
}

export const ALICE = { username: 'alice', password: 'wonderland', totpSecret: 'JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP' };
export const BOB = { username: 'bob', password: 'builder-2024', totpSecret: 'GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ' };

/** Starts the simulator on `127.0.0.1:port`, plain HTTP, for users who know it as `publicUrl`. */
export async function startIdentityServer({ port, publicUrl }) {
  const child = new ServerProcess(simulatorBinary(), ['--listen', `127.0.0.1:${port}`, '--public-url', publicUrl]);
  await child.readyAt(`http://127.0.0.1:${port}/oauth2/token/.well-known/openid-configuration`);
  return child;
}

function fromBase32(text) {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
  let bits = '';
  for (const letter of text) bits += alphabet.indexOf(letter).toString(2).padStart(5, '0');
  return Buffer.from(bits.match(/.{8}/g).map((byte) => Number.parseInt(byte, 2)));
}

/** The code that an authenticator app shows at `now` (milliseconds): RFC 6238 with SHA-1, 30 s, six digits. */
export function totp(secret, now = Date.now()) {
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(now / 30_000)));
  const digest = createHmac('sha1', fromBase32(secret)).update(counter).digest();
  const offset = digest[19] % 16;
  return String((digest.readUInt32BE(offset) % 2 ** 31) % 1_000_000).padStart(6, '0');
}

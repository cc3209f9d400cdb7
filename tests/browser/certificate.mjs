// A certificate for localhost, for one run.

import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';

/** A certificate for localhost in `directory`, valid for a day: the paths of certificate and key. */
export async function selfSigned(directory) {
  const files = { certificate: path.join(directory, 'tls.crt'), key: path.join(directory, 'tls.key') };
  await promisify(execFile)('openssl', [
    'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1', '-sha256',
    '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1',
    '-keyout', files.key, '-out', files.certificate,
  ]);
  return files;
}

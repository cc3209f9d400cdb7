// The third-party OpenID provider (npm `oidc-provider`) in WSO2's clothes.
//
// Paths, login form, consent form and the return to the authorization endpoint are those of WSO2
// Identity Server 7.x, so that riskgate meets its own doors; everything behind them is the
// certified provider. It must not know whether it is reached directly or through riskgate.

import { generateKeyPairSync } from 'node:crypto';

import { SignJWT, jwtVerify } from 'jose';
import { Provider, errors, interactionPolicy } from 'oidc-provider';

const FORM_BYTES_MAX = 16 * 1024;

export const ACCOUNT = { username: 'alice', password: 'wonderland', sub: 'a1ice-0001' };
export const RESOURCE = 'https://api.example.com';

/** The class of a sign-in with two factors, and the code that counts as the second one. */
export const MFA = 'urn:riskgate:acr:mfa';
export const CODE = '246810';

// The provider warns at every start of each default that is not for production; here they are meant.
for (const level of ['info', 'warn']) {
  const print = console[level].bind(console);
  console[level] = (text, ...rest) => {
    if (!/^oidc-provider (NOTICE|WARNING): /.test(text)) print(text, ...rest);
  };
}

const signing = generateKeyPairSync('rsa', { modulusLength: 2048 });

/** The key with which the client `batch` proves itself (private_key_jwt). */
export const BATCH_KEY = generateKeyPairSync('ec', { namedCurve: 'P-256' });

const CLIENTS = [
  {
    client_id: 'portal',
    client_secret: 'portal secret: with +, %, & and =/?',
    token_endpoint_auth_method: 'client_secret_basic',
    grant_types: ['authorization_code', 'refresh_token'],
    redirect_uris: ['https://portal.example.com/callback'],
    post_logout_redirect_uris: ['https://portal.example.com/bye'],
  },
  {
    client_id: 'mobile',
    token_endpoint_auth_method: 'none',
    grant_types: ['authorization_code', 'refresh_token'],
    redirect_uris: ['https://mobile.example.com/callback'],
    require_pushed_authorization_requests: true,
  },
  {
    client_id: 'batch',
    token_endpoint_auth_method: 'private_key_jwt',
    token_endpoint_auth_signing_alg: 'ES256',
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
    jwks: { keys: [{ ...BATCH_KEY.publicKey.export({ format: 'jwk' }), kid: 'batch', alg: 'ES256', use: 'sig' }] },
  },
  {
    client_id: 'shop',
    client_secret: 'shop-secret',
    token_endpoint_auth_method: 'client_secret_post',
    grant_types: ['authorization_code', 'refresh_token', 'implicit'],
    response_types: ['code', 'id_token', 'code id_token'],
    redirect_uris: ['https://shop.example.com/callback'],
  },
  {
    client_id: 'backoffice',
    client_secret: 'backoffice-secret',
    token_endpoint_auth_method: 'client_secret_post',
    grant_types: [],
    response_types: [],
    redirect_uris: [],
  },
];

export function clientSecret(clientId) {
  return CLIENTS.find((client) => client.client_id === clientId).client_secret;
}

export function redirectUri(clientId) {
  return CLIENTS.find((client) => client.client_id === clientId).redirect_uris[0];
}

function interactionPath(interaction) {
  const { uid, params, prompt } = interaction;
  if (prompt.name === 'consent') {
    return `/authenticationendpoint/oauth2_consent.do?sessionDataKeyConsent=${uid}&application=${params.client_id}`;
  }
  const query = new URLSearchParams({
    sessionDataKey: uid,
    relyingParty: params.client_id,
    type: 'oidc',
    sp: params.client_id,
    authenticators: 'BasicAuthenticator:LOCAL',
  });
  return `/authenticationendpoint/login.do?${query}`;
}

/** Asks for the second factor when `acr_values` names its class and the session has not got it. */
function askingForFactors() {
  const policy = interactionPolicy.base();
  const { Check } = interactionPolicy;
  policy.get('login').checks.add(new Check('second_factor', 'a second factor is required', 'interaction_required', (ctx) => {
    const asked = ctx.oidc.params.acr_values?.split(' ').includes(MFA);
    return asked && ctx.oidc.acr !== MFA ? Check.REQUEST_PROMPT : Check.NO_NEED_TO_PROMPT;
  }));
  return policy;
}

const CONFIGURATION = {
  clients: CLIENTS,
  clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'private_key_jwt', 'none'],
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
  cookies: {
    keys: ['oidc-tests-cookie-key'],
    // The interaction cookie is read at /commonauth and /oauth2/authorize too, not only at the page.
    long: { httpOnly: true, sameSite: 'none' },
    short: { httpOnly: true, sameSite: 'lax', path: '/' },
  },
  enableHttpPostMethods: true,
  features: {
    claimsParameter: { enabled: true },
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true },
    pushedAuthorizationRequests: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      getResourceServerInfo: (ctx, resource) => {
        if (resource !== RESOURCE) throw new errors.InvalidTarget();
        return {
          accessTokenFormat: 'jwt',
          audience: RESOURCE,
          jwt: { sign: { alg: 'RS256' } },
          scope: 'orders:read orders:write',
        };
      },
    },
    revocation: { enabled: true },
    rpInitiatedLogout: { enabled: true },
    userinfo: { enabled: true },
  },
  findAccount: (ctx, sub) => ({
    accountId: sub,
    claims: () => ({
      sub, name: 'Alice Liddell', email: 'alice@example.com', email_verified: true,
    }),
  }),
  interactions: { url: (ctx, interaction) => interactionPath(interaction) },
  issueRefreshToken: (ctx, client) => client.grantTypeAllowed('refresh_token'),
  jwks: { keys: [{ ...signing.privateKey.export({ format: 'jwk' }), kid: 'provider_RS256', alg: 'RS256', use: 'sig' }] },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  routes: {
    authorization: '/oauth2/authorize',
    end_session: '/oidc/logout',
    introspection: '/oauth2/introspect',
    jwks: '/oauth2/jwks',
    pushed_authorization_request: '/oauth2/par',
    revocation: '/oauth2/revoke',
    token: '/oauth2/token',
    userinfo: '/oauth2/userinfo',
  },
  scopes: ['openid', 'offline_access', 'orders:read', 'orders:write'],
  ttl: {
    AccessToken: 3600, AuthorizationCode: 300, ClientCredentials: 3600, Grant: 86400, IdToken: 3600, Interaction: 600, RefreshToken: 86400, Session: 86400,
  },
};

/** What is different where operators of the console at `origin` sign in, over plain HTTP. */
function forConsole(origin, roles) {
  return {
    clients: [{
      client_id: 'console',
      client_secret: clientSecret('portal'),
      token_endpoint_auth_method: 'client_secret_basic',
      grant_types: ['authorization_code'],
      redirect_uris: [`${origin}/console/sign-in/callback`],
      post_logout_redirect_uris: [`${origin}/console/sign-in`],
    }],
    claims: { ...CONFIGURATION.claims, roles: ['roles'] },
    // Claims of scopes are in ID tokens, as WSO2 has them, and not at userinfo alone.
    conformIdTokenClaims: false,
    cookies: { ...CONFIGURATION.cookies, long: { httpOnly: true, sameSite: 'lax' } },
    enableHttpPostMethods: false,
    findAccount: (ctx, sub) => ({ accountId: sub, claims: () => ({ sub, roles }) }),
    scopes: [...CONFIGURATION.scopes, 'roles'],
  };
}

/** What the provider calls a token that it has signed itself; any other stays as it is. */
async function referenceOf(token) {
  try {
    return (await jwtVerify(token, signing.publicKey, { typ: 'at+jwt' })).payload.jti;
  } catch {
    return token;
  }
}

/** Makes access tokens what WSO2's are: signed JWTs whose hash is in the ID token and that userinfo takes. */
function signAccessTokens(provider) {
  const { AccessToken, IdToken } = provider;
  /** Each by its reference. */
  const signed = new Map();
  const { save } = AccessToken.prototype;
  const { find } = AccessToken;
  AccessToken.prototype.save = async function saveSigned() {
    const value = await save.call(this);
    if (value.includes('.')) return value;
    const now = Math.floor(Date.now() / 1000);
    const token = await new SignJWT({
      iss: provider.issuer,
      sub: this.accountId,
      aud: this.clientId,
      client_id: this.clientId,
      scope: this.scope,
      jti: value,
      iat: now,
      exp: now + this.expiration,
    }).setProtectedHeader({
      x5t: 'provider', kid: 'provider_RS256', typ: 'at+jwt', alg: 'RS256',
    }).sign(signing.privateKey);
    signed.set(value, token);
    return token;
  };
  AccessToken.find = async function findSigned(value, ...more) {
    return find.call(this, await referenceOf(value), ...more);
  };
  const { issue } = IdToken.prototype;
  IdToken.prototype.issue = async function issueWithHash(options) {
    const token = signed.get(this.ctx?.oidc?.entities?.AccessToken?.jti);
    if (options.use === 'idtoken' && token !== undefined) this.set('at_hash', token);
    return issue.call(this, options);
  };
}

async function readForm(req) {
  const chunks = [];
  let bytes = 0;
  for await (const chunk of req) {
    bytes += chunk.length;
    if (bytes > FORM_BYTES_MAX) throw new Error(`form of more than ${FORM_BYTES_MAX} bytes`);
    chunks.push(chunk);
  }
  return new URLSearchParams(Buffer.concat(chunks).toString('utf8'));
}

function page(res, title, form) {
  const body = Buffer.from(`<!DOCTYPE html>\n<html lang="en"><head><title>${title}</title></head><body><h1>${title}</h1>\n${form}\n</body></html>\n`);
  res.writeHead(200, {
    'Content-Type': 'text/html;charset=UTF-8',
    'Content-Length': body.length,
    'Cache-Control': 'no-store, no-cache, must-revalidate, private',
    'X-Frame-Options': 'DENY',
  });
  res.end(body);
}

function redirect(res, location) {
  res.writeHead(302, { Location: location, 'Content-Length': 0 });
  res.end();
}

function refuse(res, text) {
  res.writeHead(400, { 'Content-Type': 'text/plain', 'Content-Length': Buffer.byteLength(text) });
  res.end(text);
}

/** Only identifiers that the provider itself makes (nanoid) go into a page or a location. */
function flowKey(value) {
  return /^[\w-]{1,64}$/.test(value ?? '') ? value : undefined;
}

/**
 * A request handler for `node:http` that serves the provider for the public URL `origin`.
 *
 * Each call makes a new provider with an empty memory, but with the same keys and clients. With `secondFactor` it asks for
 * one when `acr_values` says so; without it, it ignores the parameter, as WSO2 does without a script. With `jwtTokens`
 * access tokens are signed JWTs. With `console` (the origin of riskgate's console) operators sign in there by the client
 * `console`, as what `roles` says.
 */
export function providerHandler(origin, {
  secondFactor = false, jwtTokens = false, console: consoleOrigin, roles = [],
} = {}) {
  const provider = new Provider(`${origin}/oauth2/token`, {
    ...CONFIGURATION,
    ...(secondFactor ? { acrValues: [MFA], interactions: { ...CONFIGURATION.interactions, policy: askingForFactors() } } : {}),
    ...(consoleOrigin === undefined ? {} : forConsole(consoleOrigin, roles)),
  });
  /** Interactions whose password was right and whose second factor is still to come. */
  const halfway = new Set();
  provider.proxy = true;
  if (jwtTokens) signAccessTokens(provider);

  // WSO2 returns to /oauth2/authorize?sessionDataKey=K where this provider has /oauth2/authorize/K.
  provider.use(async (ctx, next) => {
    await next();
    const cookies = ctx.res.getHeader('set-cookie');
    if (Array.isArray(cookies)) {
      ctx.res.setHeader('set-cookie', cookies.map((cookie) => cookie.replace(/path=\/oauth2\/authorize\/[\w-]+/, 'path=/oauth2/authorize')));
    }
  });
  const respond = provider.callback();

  async function login(req, res) {
    const form = await readForm(req);
    const key = flowKey(form.get('sessionDataKey'));
    const interaction = await provider.interactionDetails(req, res);
    if (key === undefined || interaction.uid !== key || interaction.prompt.name !== 'login') {
      refuse(res, 'unknown sessionDataKey');
      return;
    }
    if (halfway.has(key)) {
      if (form.get('token') !== CODE) {
        redirect(res, `/authenticationendpoint/totp.do?sessionDataKey=${key}&authFailure=true`);
        return;
      }
      halfway.delete(key);
      await provider.interactionResult(req, res, { login: { accountId: ACCOUNT.sub, acr: MFA, amr: ['pwd', 'totp'] } });
      redirect(res, `/oauth2/authorize?sessionDataKey=${key}`);
      return;
    }
    if (form.get('username') !== ACCOUNT.username || form.get('password') !== ACCOUNT.password) {
      redirect(res, `${interactionPath(interaction)}&authFailure=true&authFailureMsg=login.fail.message`);
      return;
    }
    if (secondFactor && interaction.params.acr_values?.split(' ').includes(MFA)) {
      halfway.add(key);
      redirect(res, `/authenticationendpoint/totp.do?sessionDataKey=${key}`);
      return;
    }
    await provider.interactionResult(req, res, { login: { accountId: ACCOUNT.sub, amr: ['pwd'] } });
    redirect(res, `/oauth2/authorize?sessionDataKey=${key}`);
  }

  async function consent(req, res, form) {
    const key = flowKey(form.get('sessionDataKeyConsent'));
    const interaction = await provider.interactionDetails(req, res);
    if (key === undefined || interaction.uid !== key || interaction.prompt.name !== 'consent') {
      refuse(res, 'unknown sessionDataKeyConsent');
      return;
    }
    if (form.get('consent') !== 'approve') {
      await provider.interactionResult(req, res, { error: 'access_denied', error_description: 'User denied the consent' });
    } else {
      const grant = interaction.grantId
        ? await provider.Grant.find(interaction.grantId)
        : new provider.Grant({ accountId: interaction.session.accountId, clientId: interaction.params.client_id });
      const { missingOIDCScope, missingOIDCClaims, missingResourceScopes } = interaction.prompt.details;
      if (missingOIDCScope) grant.addOIDCScope(missingOIDCScope.join(' '));
      if (missingOIDCClaims) grant.addOIDCClaims(missingOIDCClaims);
      for (const [resource, scopes] of Object.entries(missingResourceScopes ?? {})) {
        grant.addResourceScope(resource, scopes.join(' '));
      }
      await provider.interactionResult(req, res, { consent: { grantId: await grant.save() } });
    }
    redirect(res, `/oauth2/authorize?sessionDataKey=${key}`);
  }

  return async (req, res) => {
    const url = new URL(req.url, origin);
    try {
      if (url.pathname === '/authenticationendpoint/login.do') {
        const key = flowKey(url.searchParams.get('sessionDataKey'));
        page(res, 'Sign in', `<form id="loginForm" method="post" action="../commonauth"><input name="username"><input name="password" type="password"><input type="hidden" name="sessionDataKey" value="${key}"><button>Sign in</button></form>`);
      } else if (url.pathname === '/authenticationendpoint/totp.do') {
        const key = flowKey(url.searchParams.get('sessionDataKey'));
        page(res, 'One-time code', `<form method="post" action="../commonauth"><input name="token"><input type="hidden" name="sessionDataKey" value="${key}"><button>Go on</button></form>`);
      } else if (url.pathname === '/authenticationendpoint/oauth2_consent.do') {
        const key = flowKey(url.searchParams.get('sessionDataKeyConsent'));
        page(res, 'Consent', `<form method="post" action="../oauth2/authorize"><input type="hidden" name="sessionDataKeyConsent" value="${key}"><button name="consent" value="approve">Approve</button></form>`);
      } else if (url.pathname === '/commonauth' && req.method === 'POST') {
        await login(req, res);
      } else if (jwtTokens && ['/oauth2/introspect', '/oauth2/revoke'].includes(url.pathname)) {
        // The provider asks here for the reference.
        const form = await readForm(req);
        if (form.has('token')) form.set('token', await referenceOf(form.get('token')));
        req.body = Object.fromEntries(form);
        await respond(req, res);
      } else if (url.pathname === '/oauth2/authorize' && req.method === 'POST') {
        const form = await readForm(req);
        if (form.has('sessionDataKeyConsent')) {
          await consent(req, res, form);
        } else {
          req.body = Object.fromEntries(form);
          await respond(req, res);
        }
      } else {
        const key = flowKey(url.searchParams.get('sessionDataKey'));
        if (url.pathname === '/oauth2/authorize' && key !== undefined) {
          req.url = `/oauth2/authorize/${key}`;
        } else if (url.pathname.startsWith('/oauth2/token/.well-known/')) {
          req.url = url.pathname.slice('/oauth2/token'.length);
        }
        await respond(req, res);
      }
    } catch (error) {
      refuse(res, `the provider refused: ${error.message}`);
    }
  };
}

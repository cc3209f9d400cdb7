// Runs the adaptive script that ships in conf/wso2 against a stand-in for WSO2's script engine: the functions that it
// calls, and a request for each of its moments.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import vm from 'node:vm';

const source = readFileSync(new URL('../../conf/wso2/riskgate-step-up.js', import.meta.url), 'utf8');
const MFA = 'urn:riskgate:acr:mfa';
const PASSWORD = 'urn:riskgate:acr:pwd';

/**
 * One login in which every step succeeds. `authorize` and `login` are the headers of the two requests.
 * Returns the steps that ran, the acr that was selected and the failure, if any.
 */
function login({ authorize, login, acrValues = [], onBypass }) {
    const seen = { steps: [], failure: null, acr: null };
    const requests = [authorize, login, login];
    let moment = 0;
    const context = () => ({
        request: { headers: requests[Math.min(moment, requests.length - 1)] },
        set selectedAcr(value) {
            seen.acr = value;
        },
    });
    const engine = {
        executeStep(number, handlers) {
            seen.steps.push(number);
            moment += 1;
            handlers?.onSuccess?.(context());
        },
        fail(reason) {
            seen.failure = reason.errorCode;
        },
        // WSO2 takes the strongest supported value that was asked for.
        selectAcrFrom: (_, supported) => supported.filter((value) => acrValues.includes(value)).at(-1) ?? null,
    };
    const text = onBypass ? source.replace("ON_BYPASS = 'step_up'", `ON_BYPASS = '${onBypass}'`) : source;
    vm.createContext(engine);
    vm.runInContext(`${text}\nthis.start = onLoginRequest;`, engine);
    engine.start(context());
    return seen;
}

const status = (value, verdict) => ({ 'x-risk-status': value, ...(verdict && { 'x-risk-verdict': verdict }) });
const allow = status('scored', 'allow');

for (const [name, headers] of Object.entries({
    'allow': allow,
    'monitor, which sends no verdict': status('scored'),
    'unscored in monitor': status('unscored'),
    'unscored and let through': status('unscored', 'allow'),
    'off': status('off'),
})) {
    test(`one factor is enough: ${name}`, () => {
        const seen = login({ authorize: headers, login: headers });
        assert.deepEqual(seen, { steps: [1], failure: null, acr: PASSWORD });
    });
}

for (const verdict of ['step_up', 'review', 'block']) {
    test(`the second factor runs when the login gets ${verdict}`, () => {
        const seen = login({ authorize: allow, login: status('scored', verdict) });
        assert.deepEqual(seen, { steps: [1, 2], failure: null, acr: MFA });
    });
}

test('a demand at the authorize request is not forgotten at the login', () => {
    const seen = login({ authorize: status('scored', 'step_up'), login: allow });
    assert.deepEqual(seen, { steps: [1, 2], failure: null, acr: MFA });
});

test('an unscored request that policy steps up gets the second factor', () => {
    const seen = login({ authorize: allow, login: status('unscored', 'step_up') });
    assert.deepEqual(seen.steps, [1, 2]);
});

test('acr_values asks for the second factor', () => {
    const seen = login({ authorize: allow, login: allow, acrValues: [MFA] });
    assert.deepEqual(seen, { steps: [1, 2], failure: null, acr: MFA });
    assert.deepEqual(login({ authorize: allow, login: allow, acrValues: [PASSWORD] }).steps, [1]);
});

test('a way around the gateway costs the second factor', () => {
    assert.deepEqual(login({ authorize: {}, login: {} }).steps, [1, 2]);
    assert.deepEqual(login({ authorize: allow, login: {} }).steps, [1, 2]);
});

test('a way around the gateway is refused where that is wanted', () => {
    const direct = login({ authorize: {}, login: {}, onBypass: 'refuse' });
    assert.deepEqual(direct, { steps: [], failure: 'access_denied', acr: null });
    const half = login({ authorize: allow, login: {}, onBypass: 'refuse' });
    assert.deepEqual(half, { steps: [1], failure: 'access_denied', acr: null });
    assert.deepEqual(login({ authorize: allow, login: allow, onBypass: 'refuse' }).failure, null);
});

test('the script is old JavaScript, which every engine of WSO2 reads', () => {
    assert.doesNotMatch(source, /\b(?:let|const|class)\s|=>|`[^`]*\$\{/);
});

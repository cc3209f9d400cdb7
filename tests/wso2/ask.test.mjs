// Runs the asking script that ships in conf/wso2 against a stand-in for WSO2's script engine, `httpPost` included.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import vm from 'node:vm';

const source = readFileSync(new URL('../../conf/wso2/riskgate-ask.js', import.meta.url), 'utf8');
const MFA = 'urn:riskgate:acr:mfa';
const PASSWORD = 'urn:riskgate:acr:pwd';

/**
 * One login of alice in which every step succeeds. `answer` is what riskgate says: an object, 'fail' or 'timeout'.
 * Returns the steps that ran, the acr that was selected and what riskgate was asked.
 */
function login({ authorize, login = authorize, acrValues = [], answer, onSilence }) {
    const seen = { steps: [], acr: null, asked: null };
    const requests = [authorize, login];
    let moment = 0;
    const context = () => ({
        request: { headers: requests[Math.min(moment, requests.length - 1)], ip: '192.0.2.10' },
        currentKnownSubject: { username: 'alice', tenantDomain: 'carbon.super' },
        set selectedAcr(value) {
            seen.acr = value;
        },
    });
    const engine = {
        secrets: { riskgate: 'the secret' },
        executeStep(number, handlers) {
            seen.steps.push(number);
            moment += 1;
            handlers?.onSuccess?.(context());
        },
        httpPost(url, body, headers, authentication, handlers) {
            seen.asked = { url, body, authentication };
            if (answer === 'fail') {
                handlers.onFail(context(), {});
            } else if (answer === 'timeout') {
                handlers.onTimeout(context(), {});
            } else {
                handlers.onSuccess(context(), answer);
            }
        },
        selectAcrFrom: (_, supported) => supported.filter((value) => acrValues.includes(value)).at(-1) ?? null,
    };
    const text = onSilence ? source.replace("ON_SILENCE = 'header'", `ON_SILENCE = '${onSilence}'`) : source;
    vm.createContext(engine);
    vm.runInContext(`${text}\nthis.start = onLoginRequest;`, engine);
    engine.start(context());
    return seen;
}

const told = (verdict) => ({
    'x-risk-status': 'scored',
    'x-risk-verdict': verdict,
    'x-risk-decision-id': 'd-1',
});

test('what riskgate says counts, and it is asked for this user, tenant and address', () => {
    const calm = login({ authorize: told('allow'), answer: { risk_status: 'scored', risk_verdict: 'allow' } });
    assert.deepEqual([calm.steps, calm.acr], [[1], PASSWORD]);
    assert.deepEqual({ ...calm.asked.body }, {
        decision_id: 'd-1', username: 'alice', tenant: 'carbon.super', ip: '192.0.2.10',
    });
    assert.equal(calm.asked.authentication.type, 'bearertoken');
    assert.equal(calm.asked.authentication.properties.token, 'the secret');
});

test('a header that says allow does not help when riskgate says step_up', () => {
    const seen = login({ authorize: told('allow'), answer: { risk_status: 'scored', risk_verdict: 'step_up' } });
    assert.deepEqual([seen.steps, seen.acr], [[1, 2], MFA]);
});

test('forged headers do not help: riskgate does not know the decision', () => {
    const seen = login({ authorize: told('allow'), answer: { risk_status: 'unknown' } });
    assert.deepEqual([seen.steps, seen.acr], [[1, 2], MFA]);
});

test('no headers at all cost the second factor', () => {
    const seen = login({ authorize: {} });
    assert.deepEqual([seen.steps, seen.asked], [[1, 2], null]);
    const half = login({ authorize: { 'x-risk-status': 'off' }, login: {} });
    assert.deepEqual(half.steps, [1, 2]);
});

test('in monitor and off there is nothing to ask for', () => {
    for (const status of ['scored', 'unscored', 'off']) {
        const seen = login({ authorize: { 'x-risk-status': status } });
        assert.deepEqual([seen.steps, seen.acr, seen.asked], [[1], PASSWORD, null], status);
    }
});

test('unscored is no reason to stop anybody', () => {
    const seen = login({ authorize: told('allow'), answer: { risk_status: 'unscored', risk_verdict: 'allow' } });
    assert.deepEqual(seen.steps, [1]);
    assert.deepEqual(login({ authorize: told('allow'), answer: { risk_status: 'unscored' } }).steps, [1]);
});

for (const answer of ['fail', 'timeout']) {
    test(`when riskgate does not answer the header counts, or step 2 where that is wanted: ${answer}`, () => {
        assert.deepEqual(login({ authorize: told('allow'), answer }).steps, [1]);
        assert.deepEqual(login({ authorize: told('allow'), login: told('step_up'), answer }).steps, [1, 2]);
        assert.deepEqual(login({ authorize: told('allow'), answer, onSilence: 'step_up' }).steps, [1, 2]);
    });
}

test('a demand at the authorize request or by acr_values is not asked about again', () => {
    const demanded = login({ authorize: told('step_up'), login: told('allow') });
    assert.deepEqual([demanded.steps, demanded.asked], [[1, 2], null]);
    const wanted = login({ authorize: told('allow'), acrValues: [MFA] });
    assert.deepEqual([wanted.steps, wanted.acr], [[1, 2], MFA]);
});

test('the script is old JavaScript, which every engine of WSO2 reads', () => {
    assert.doesNotMatch(source, /\b(?:let|const|class)\s|=>|`[^`]*\$\{/);
});

// Adaptive authentication script for WSO2 Identity Server 7.x behind riskgate: like riskgate-step-up.js, but it asks riskgate
// itself instead of believing a header. Somebody who reaches WSO2 around riskgate can send any header, and cannot make
// riskgate say that this user has passed it.
//
// Step 1 is the application's usual first factor, step 2 the stronger one. It needs the actions listener of riskgate
// (`actions.listen`, `actions.secret_file`) and a secret named `riskgate` with the same value in the script editor.

// Where riskgate's actions listener is.
var RISKGATE = 'https://riskgate.internal:9091/actions/risk';

// The acr values; the second is `step_up.acr` in riskgate.toml.
var ACR_PASSWORD = 'urn:riskgate:acr:pwd';
var ACR_STRONG = 'urn:riskgate:acr:mfa';

// What a login gets while riskgate does not answer: 'header' follows the header of the request, as riskgate-step-up.js
// does; 'step_up' runs step 2.
var ON_SILENCE = 'header';

// Header names are in lower case here. The request is the one of the moment.
var header = function (context, name) {
    var value = context.request.headers[name];
    return value ? String(value) : '';
};

var wantsMoreByHeader = function (context) {
    if (header(context, 'x-risk-status') === '') {
        return true;
    }
    var verdict = header(context, 'x-risk-verdict');
    return verdict !== '' && verdict !== 'allow';
};

var runStepTwo = function () {
    executeStep(2, {
        onSuccess: function (context) {
            context.selectedAcr = ACR_STRONG;
        }
    });
};

var follow = function (context, isMore) {
    if (isMore) {
        runStepTwo();
    } else {
        context.selectedAcr = ACR_PASSWORD;
    }
};

var onSilence = function (context) {
    follow(context, ON_SILENCE !== 'header' || wantsMoreByHeader(context));
};

var ask = function (context) {
    var user = context.currentKnownSubject;
    var question = {
        decision_id: header(context, 'x-risk-decision-id'),
        username: user.username,
        tenant: user.tenantDomain,
        ip: context.request.ip
    };
    var authentication = { type: 'bearertoken', properties: { token: secrets.riskgate } };
    httpPost(RISKGATE, question, { 'Accept': 'application/json' }, authentication, {
        onSuccess: function (context, data) {
            // `unknown` did not come through riskgate; `unscored` is no reason to stop anybody.
            follow(context, data.risk_status === 'unknown' || data.risk_verdict === 'step_up');
        },
        onFail: onSilence,
        onTimeout: onSilence
    });
};

var onLoginRequest = function (context) {
    // Asked for by the client, or by riskgate's redirect to the same request with acr_values.
    var isAsked = selectAcrFrom(context, [ACR_PASSWORD, ACR_STRONG]) === ACR_STRONG;
    var isDue = isAsked || wantsMoreByHeader(context);
    executeStep(1, {
        onSuccess: function (context) {
            if (isDue) {
                runStepTwo();
                return;
            }
            // `monitor` and `off` tell WSO2 no decision: there is nothing to ask for.
            var isTold = header(context, 'x-risk-decision-id') !== '';
            if (!isTold && !wantsMoreByHeader(context)) {
                context.selectedAcr = ACR_PASSWORD;
                return;
            }
            if (!isTold) {
                runStepTwo();
                return;
            }
            ask(context);
        }
    });
};

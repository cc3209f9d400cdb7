// Adaptive authentication script for WSO2 Identity Server 7.x behind riskgate.
//
// Step 1 is the application's usual first factor, step 2 the stronger one. riskgate says in X-Risk-Verdict what it wants:
// the script runs step 2 when it wants more than `allow`. With `mode = "enforce"` a `block` gets here where it must not
// show before the password is right: riskgate then drops the answer, whatever this script does. With `advise` riskgate
// acts on nothing, so that `review` and `block` arrive and are asked for step 2.
//
// X-Risk-Status is there on every request that passed riskgate, whatever its mode; `unscored` and `off` are no reason to
// stop anybody. A request without it did not come through riskgate.

// The acr values; the second is `step_up.acr` in riskgate.toml.
var ACR_PASSWORD = 'urn:riskgate:acr:pwd';
var ACR_STRONG = 'urn:riskgate:acr:mfa';

// What a request gets that went around riskgate: 'step_up' or 'refuse'. Refuse once nobody has a reason to come directly.
var ON_BYPASS = 'step_up';

// Header names are in lower case here. The request is the one of the moment: /oauth2/authorize at first, then the one that
// carried the first factor. riskgate sets its headers on each of them and removes those that a client sends.
var header = function (context, name) {
    var value = context.request.headers[name];
    return value ? String(value) : '';
};

var isBypass = function (context) {
    return header(context, 'x-risk-status') === '';
};

var wantsMore = function (context) {
    if (isBypass(context)) {
        return true;
    }
    var verdict = header(context, 'x-risk-verdict');
    return verdict !== '' && verdict !== 'allow';
};

var isRefused = function (context) {
    if (ON_BYPASS === 'refuse' && isBypass(context)) {
        fail({ errorCode: 'access_denied', errorMessage: 'The request did not come through the gateway.' });
        return true;
    }
    return false;
};

var onLoginRequest = function (context) {
    if (isRefused(context)) {
        return;
    }
    // Asked for by the client, or by riskgate's redirect to the same request with acr_values.
    var isAsked = selectAcrFrom(context, [ACR_PASSWORD, ACR_STRONG]) === ACR_STRONG;
    var isDue = isAsked || wantsMore(context);
    executeStep(1, {
        onSuccess: function (context) {
            if (isRefused(context)) {
                return;
            }
            if (!isDue && !wantsMore(context)) {
                context.selectedAcr = ACR_PASSWORD;
                return;
            }
            executeStep(2, {
                onSuccess: function (context) {
                    context.selectedAcr = ACR_STRONG;
                }
            });
        }
    });
};

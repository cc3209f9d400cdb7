#!/bin/sh
# Registers riskgate's actions with WSO2 Identity Server 7.1 and later, and activates them: before an access token is
# issued, before an ID token is (7.3 and later), before a password is changed. WSO2 allows one action of each kind.
#
#   WSO2=https://wso2.internal:9443 RISKGATE=https://riskgate.internal:9091 SECRET_FILE=certs/actions.secret \
#     TOKEN_FILE=token conf/wso2/register-actions.sh [preIssueAccessToken] [preIssueIdToken] [preUpdatePassword]
#
# TOKEN_FILE holds an access token with the scopes internal_action_mgt_create and internal_action_mgt_update; CA_FILE, where
# it is set, the authority of WSO2's certificate. Without names all three are registered. Nothing secret is put on a
# command line, where other users of the machine could read it.
set -eu

: "${WSO2:?the URL of WSO2}" "${RISKGATE:?the URL of the actions listener}"
: "${SECRET_FILE:?the file of actions.secret_file}" "${TOKEN_FILE:?a file with an access token}"
[ $# -gt 0 ] || set -- preIssueAccessToken preIssueIdToken preUpdatePassword

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 077
printf 'header = "Authorization: Bearer %s"\n' "$(cat "$TOKEN_FILE")" >"$work/curl"
[ -z "${CA_FILE:-}" ] || printf 'cacert = "%s"\n' "$CA_FILE" >>"$work/curl"

post() {
  curl --silent --show-error --fail-with-body --config "$work/curl" --header 'Content-Type: application/json' "$@"
}

for action in "$@"; do
  more=
  case $action in
    preIssueAccessToken) path=pre-issue-access-token; headers='"allowedHeaders": ["x-risk-decision-id"]' ;;
    preIssueIdToken) path=pre-issue-id-token; headers='"allowedHeaders": ["x-risk-decision-id"]' ;;
    preUpdatePassword)
      path=pre-update-password
      headers='"allowedHeaders": []'
      more=', "attributes": ["http://wso2.org/claims/username"], "passwordSharing": {"format": "SHA256_HASHED"}'
      ;;
    *)
      echo "unknown action $action, expected preIssueAccessToken, preIssueIdToken or preUpdatePassword" >&2
      exit 2
      ;;
  esac
  cat >"$work/action.json" <<JSON
{"name": "riskgate", "description": "Risk of the request, from riskgate",
 "endpoint": {"uri": "$RISKGATE/actions/$path", $headers,
  "authentication": {"type": "BEARER", "properties": {"accessToken": "$(cat "$SECRET_FILE")"}}}$more}
JSON
  post --data "@$work/action.json" "$WSO2/api/server/v1/actions/$action" >"$work/answer"
  id=$(sed -n 's/.*"id" *: *"\([0-9a-f-]*\)".*/\1/p' "$work/answer" | head -n 1)
  [ -n "$id" ] || {
    echo "$action: WSO2 gave no id" >&2
    exit 1
  }
  post --request POST "$WSO2/api/server/v1/actions/$action/$id/activate" >/dev/null
  echo "$action: registered and active ($id)"
done

"""Redeems a code with Authlib, a client library of another language, and prints what it raised as JSON.

Arguments: token endpoint, client id, client secret, redirect URI, the URL of the callback, PKCE verifier.
"""

import json
import os
import sys

# The test provider speaks plain HTTP on loopback.
os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"

from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session


def main() -> None:
    endpoint, client, secret, redirect, callback, verifier = sys.argv[1:7]
    session = OAuth2Session(client, secret, redirect_uri=redirect, token_endpoint_auth_method="client_secret_basic")
    session.trust_env = False
    try:
        session.fetch_token(endpoint, authorization_response=callback, code_verifier=verifier)
    except OAuthError as error:
        print(json.dumps({"raised": type(error).__name__, "error": error.error}))
    else:
        print(json.dumps({"raised": None, "error": None}))


if __name__ == "__main__":
    main()

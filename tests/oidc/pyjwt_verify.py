"""Verifies a token with PyJWT, as an API does that knows the issuer and its key set, and prints its claims as JSON.

Arguments: URL of the key set, issuer, audience, token.
"""

import json
import sys
import urllib.request

# The test provider is on loopback.
urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler({})))

import jwt


def main() -> None:
    url, issuer, audience, token = sys.argv[1:5]
    key = jwt.PyJWKClient(url).get_signing_key_from_jwt(token)
    claims = jwt.decode(
        token,
        key.key,
        algorithms=["RS256", "ES256", "EdDSA"],
        audience=audience,
        issuer=issuer,
        options={"require": ["exp", "iat", "iss", "aud", "sub"]},
    )
    print(json.dumps(claims))


if __name__ == "__main__":
    main()

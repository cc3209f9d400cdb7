"""Verifies an X-Risk-Assertion with PyJWT. Arguments: URL of the key set, issuer, audience, assertion."""

import json
import sys

import jwt


def verify(url: str, issuer: str, audience: str, assertion: str) -> dict:
    if jwt.get_unverified_header(assertion).get("typ") != "risk-assertion+jwt":
        raise jwt.InvalidTokenError("of another type")
    # A service keeps this client: it keeps the keys for some minutes, and fetches them again for one that is not in it.
    key = jwt.PyJWKClient(url).get_signing_key_from_jwt(assertion)
    return jwt.decode(
        assertion,
        key.key,
        algorithms=["ES256", "RS256", "EdDSA"],
        issuer=issuer,
        audience=audience,
        leeway=5,
        options={"require": ["iss", "aud", "sub", "exp", "iat", "jti"]},
    )


if __name__ == "__main__":
    try:
        print(json.dumps(verify(*sys.argv[1:5])))
    except jwt.PyJWTError as error:
        sys.exit(str(error))

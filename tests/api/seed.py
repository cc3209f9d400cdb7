#!/usr/bin/env python3
"""Fills a gateway under test with real decisions, and writes the description of its API with ids that hit.

seed.py GATEWAY ADMIN TOKEN PASSWORD OUT: people sign in through GATEWAY (two of them are held, by the policy of
scripts/test-api.sh), two decisions are confirmed at ADMIN, and OUT gets docs/reference/admin-api.json with examples of
what is there by then. Nothing of Schemathesis is needed.

check.py says afterwards whether they were hit.
"""

import http.client
import json
import pathlib
import sys
import time
import urllib.parse
import urllib.request

DESCRIPTION = pathlib.Path(__file__).resolve().parents[2] / "docs/reference/admin-api.json"
WITHIN_SECONDS = 60
# At home, far away, in a data centre, in another country: of tests/data/geo.
ADDRESSES = ["192.0.2.10", "198.51.100.20", "203.0.113.5", "198.51.100.200"]
PEOPLE = {"alice": "wonderland", "bob": "builder-2024", "carol": "wrong"}
HELD = "demo-opaque"


def exchange(base, method, path, form=None, headers=None):
    """One request, which follows no redirect: status, headers, body."""
    place = urllib.parse.urlsplit(base)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=WITHIN_SECONDS)
    body = urllib.parse.urlencode(form) if form is not None else None
    headers = dict(headers or {})
    if form is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    found = answer.status, answer.headers, answer.read().decode()
    connection.close()
    return found


def sign_in(gateway, client, address, name, password):
    """Opens the login of an application and sends name and password; a request that is held ends before."""
    query = urllib.parse.urlencode({
        "client_id": client, "redirect_uri": "https://app.example.com/cb", "response_type": "code", "scope": "openid",
        "state": "s", "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", "code_challenge_method": "S256",
    })
    headers = {"X-Forwarded-For": address, "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
    _, opened, _ = exchange(gateway, "GET", f"/oauth2/authorize?{query}", headers=headers)
    page = urllib.parse.urlsplit(opened.get("Location") or "")
    key = urllib.parse.parse_qs(page.query).get("sessionDataKey")
    if key:
        cookies = [cookie.split(";")[0] for cookie in opened.get_all("Set-Cookie") or []]
        form = {"username": name, "password": password, "sessionDataKey": key[0]}
        exchange(gateway, "POST", "/commonauth", form, {**headers, "Cookie": "; ".join(cookies)})


def until(ask):
    """Asks until there is an answer that is none of False, None and empty."""
    end = time.monotonic() + WITHIN_SECONDS
    while True:
        found = ask()
        if found:
            return found
        if time.monotonic() > end:
            sys.exit("error: what was to be there is not")
        time.sleep(0.1)


def main():
    gateway, admin, token, password, out = sys.argv[1:]
    bearer = {"Authorization": f"Bearer {token}"}

    def get(path):
        status, _, body = exchange(admin, "GET", path, headers=bearer)
        if status != 200:
            sys.exit(f"error: {path}: {status} {body}")
        return json.loads(body)

    for address in ADDRESSES:
        for name, secret in PEOPLE.items():
            sign_in(gateway, "demo-spa", address, name, secret)
    for address in ADDRESSES[:2]:
        sign_in(gateway, HELD, address, "bob", PEOPLE["bob"])
    until(lambda: len(get("/api/decisions?limit=200")["decisions"]) >= 2 * len(ADDRESSES) * len(PEOPLE))
    decisions = get("/api/decisions?limit=5")
    ids = [one["id"] for one in decisions["decisions"]]
    held = [one["id"] for one in until(lambda: get("/review")["logins"])]
    if len(held) != 2:
        sys.exit(f"error: 2 logins were to be held, and {held} are")
    person = until(lambda: get("/api/decisions?door=login")["decisions"])[0]["subject"]
    for truth, decision in [("safe", ids[0]), ("compromised", ids[1])]:
        named = {**bearer, "X-Riskgate-Operator": "seed"}
        form = {"truth": truth, "note": "for the test", "kind": "phishing"}
        status, _, body = exchange(admin, "POST", f"/api/decisions/{decision}/label", form, named)
        if status != 200:
            sys.exit(f"error: the label is not taken: {status} {body}")

    description = json.loads(DESCRIPTION.read_text())
    examples = {
        ("/api/decisions", "get"): {"older": [decisions["older"]], "verdict": ["allow"], "country": ["CH"]},
        ("/api/decisions/{id}", "get"): {"id": ids},
        ("/api/decisions/{id}/label", "post"): {"id": ids, "X-Riskgate-Operator": ["ada"]},
        ("/api/users/{subject}", "get"): {"subject": [person], "all": ["1"]},
        ("/review/{id}/release", "post"): {"id": [held[0]], "X-Riskgate-Operator": ["ada"]},
        ("/review/{id}/refuse", "post"): {"id": [held[1]], "X-Riskgate-Operator": ["ada"]},
        ("/rollout/{word}", "post"): {"word": ["demote"]},
    }
    forms = {
        ("/api/decisions/{id}/label", "post"): {"truth": "compromised", "note": "asked on the known number", "kind": "phishing"},
        ("/rollout/{word}", "post"): {
            "operator": "ada", "password": password, "reason": "for the test",
            "application": "demo-web", "mode": "monitor", "percentage": 100,
        },
    }
    for (path, method), values in examples.items():
        parameters = {one["name"]: one for one in description["paths"][path][method]["parameters"]}
        for name, these in values.items():
            parameters[name]["examples"] = {str(number): {"value": value} for number, value in enumerate(these)}
    for (path, method), form in forms.items():
        content = description["paths"][path][method]["requestBody"]["content"]
        content["application/x-www-form-urlencoded"]["example"] = form
    pathlib.Path(out).write_text(json.dumps(description))
    print(f"{len(ids)} decisions, {len(held)} held logins, 2 labels and a rollout plan to ask for")


if __name__ == "__main__":
    main()

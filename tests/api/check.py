#!/usr/bin/env python3
"""Says how often each operation was asked and answered, from the HAR file of a run: check.py DESCRIPTION HAR [OPERATION...].

Exit code 1 where an operation was never answered with success: its cases have tried refusals alone. The operations that are
named need none.
"""

import collections
import json
import re
import sys
import urllib.parse


def main():
    description, har, *without = sys.argv[1:]
    with open(description) as file:
        paths = json.load(file)["paths"]
    operations = []
    for path, methods in paths.items():
        form = re.compile("^" + re.sub(r"\\{[^/]*\\}", "[^/]*", re.escape(path)) + "$")
        operations += [(one["operationId"], method.upper(), form) for method, one in methods.items()]
    with open(har) as file:
        entries = json.load(file)["log"]["entries"]
    asked, answered = collections.Counter(), collections.Counter()
    for entry in entries:
        request, status = entry["request"], entry["response"]["status"]
        path = urllib.parse.urlsplit(request["url"]).path
        for name, method, form in operations:
            if method == request["method"] and form.match(path):
                asked[name] += 1
                answered[name] += 200 <= status < 300
    for name, _, _ in operations:
        print(f"    {name:<14} {asked[name]:>5} asked, {answered[name]:>5} answered with success")
    print(f"    {'in all':<14} {len(entries):>5}")
    never = [name for name, _, _ in operations if not answered[name] and name not in without]
    if never:
        sys.exit(f"error: never answered with success: {', '.join(never)}")


if __name__ == "__main__":
    main()

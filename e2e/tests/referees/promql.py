"""Parses the PromQL expressions of a JSON list on standard input, with the grammar of Prometheus. Says how many there were, or
which is none and why."""

import json
import sys

import promql_parser

expressions = json.load(sys.stdin)
for expression in expressions:
    try:
        promql_parser.parse(expression)
    except ValueError as error:
        sys.exit(f"{expression}\n{error}")
print(f"{len(expressions)} expressions")

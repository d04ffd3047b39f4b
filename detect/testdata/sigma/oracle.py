#!/usr/bin/env python3
"""Makes events for Sigma rules from the rules' own conditions, and asks pySigma's SQLite backend,
which shares nothing with our engine, which rules each event satisfies.

    python3 -m venv v && v/bin/pip install pysigma pysigma-backend-sqlite exrex
    v/bin/python oracle.py RULES-DIRECTORY [EVENTS-PER-RULE] > events.ndjson

For each rule: events that should satisfy it, and near-misses made of them in what the rule asks about
(a field less, a character less, other case, something before or after), until the oracle says that
there is one of each. Every line has an event and, as `expect`,
the ids of all rules of the directory that match it. `rules try` prints the same for ours.
"""

import json
import random
import re
import sqlite3
import sys
from pathlib import Path

import exrex
from sigma.backends.sqlite import sqliteBackend
from sigma.collection import SigmaCollection
from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionNOT,
    ConditionOR,
    ConditionValueExpression,
)
from sigma.types import (
    SigmaExpansion,
    SigmaNull,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaString,
    SpecialChars,
)

FIELDS = [
    "Image", "CommandLine", "CurrentDirectory", "User", "ParentImage", "ParentCommandLine",
    "LogonId", "OriginalFileName", "Description", "Product", "Company", "FileVersion",
    "IntegrityLevel", "Hashes", "ParentUser", "GrandParentImage",
]
# How often events are made for a rule that has no match or no near-miss yet.
ROUNDS = 10
PLAIN = {"Image": "/usr/bin/x", "CommandLine": "x", "User": "nobody", "LogonId": "1000"}


def pieces(value):
    """What a value wants: (start is open, texts in order, end is open), or an exact text."""
    if isinstance(value, SigmaNumber):
        return False, [str(value.number)], False
    texts, text = [], ""
    parts = value.s if isinstance(value, SigmaString) else (str(value),)
    for part in parts:
        if part == SpecialChars.WILDCARD_MULTI:
            texts.append(text)
            text = ""
        elif part == SpecialChars.WILDCARD_SINGLE:
            text += "q"
        else:
            text += str(part)
    texts.append(text)
    opens = bool(parts) and parts[0] == SpecialChars.WILDCARD_MULTI
    closes = bool(parts) and parts[-1] == SpecialChars.WILDCARD_MULTI
    return opens, [t for t in texts if t], closes


def wanted(condition, out, rng):
    """Adds to `out` what makes the condition true: by field, a list of values."""
    if isinstance(condition, ConditionAND):
        for part in condition.args:
            wanted(part, out, rng)
    elif isinstance(condition, ConditionOR):
        wanted(rng.choice(condition.args), out, rng)
    elif isinstance(condition, ConditionFieldEqualsValueExpression):
        out.setdefault(condition.field, []).append(condition.value)
    elif isinstance(condition, ConditionValueExpression):
        out.setdefault("CommandLine", []).append(condition.value)
    # A negation is satisfied by not being asked for.


def text_of(values, rng):
    start, middle, end = "", [], ""
    for value in values:
        if isinstance(value, SigmaExpansion):
            value = rng.choice(value.values)
        if isinstance(value, SigmaNull):
            return None
        if isinstance(value, SigmaRegularExpression):
            middle.append(exrex.getone(str(value.regexp), limit=3))
            continue
        opens, texts, closes = pieces(value)
        text = "".join(texts) if len(texts) < 2 else rng.choice(["", " "]).join(texts)
        if not opens and len(text) > len(start):
            start = text
        elif opens and not closes:
            end = text
        elif opens:
            middle.append(text)
    rng.shuffle(middle)
    return start + " ".join(middle) + end


def satisfying(rule, rng):
    out = {}
    wanted(rng.choice(rule.detection.parsed_condition).parsed, out, rng)
    event = dict(PLAIN)
    for field, values in out.items():
        text = text_of(values, rng)
        if text is None:
            event.pop(field, None)
        elif field in FIELDS:
            event[field] = text
    if not event.get("Image", "/").startswith("/"):
        event["Image"] = "/" + event["Image"]
    return event, [field for field in out if event.get(field)]


def near_miss(event, asked, rng):
    event = dict(event)
    fields = asked or [field for field in event if event[field]]
    if not fields:
        return event
    field = rng.choice(fields)
    text = event[field]
    at = rng.randrange(len(text))
    change = rng.randrange(6)
    # A process without a user's name has one: user id 0 is root.
    if change == 0 and field not in ("Image", "User"):
        del event[field]
    elif change == 1:
        event[field] = text[:at] + text[at + 1:]
    elif change == 2:
        event[field] = text.swapcase()
    elif change == 3:
        event[field] = text + rng.choice(["x", " x", "/x"])
    elif change == 4:
        event[field] = rng.choice(["/x", "x "]) + text
    else:
        event[field] = text[:at] + rng.choice("xX/ ") + text[at:]
    return event


def usable(event):
    """What our events can hold: no NUL, no empty path; and no letters whose case SQLite does not
    fold."""
    for field, text in event.items():
        letters = [c for c in text if not c.isascii() and c not in "\u2013\u2014\u2015"]
        if "\0" in text or letters or (not text and field != "CommandLine"):
            return False
        if field == "LogonId" and not text.isdigit():
            return False
    return event.get("Image", "").startswith("/")


def table(events, first):
    database = sqlite3.connect(":memory:")
    database.create_function(
        "regexp", 2, lambda pattern, text: text is not None and bool(re.search(pattern, text))
    )
    columns = ", ".join(f'"{field}" TEXT COLLATE NOCASE' for field in FIELDS)
    # The backend compares whole values with `=`, Sigma without regard to case.
    database.execute(f"CREATE TABLE logs (n INTEGER, {columns})")
    marks = ", ".join("?" * (len(FIELDS) + 1))
    for n, event in enumerate(events[first:], first):
        database.execute(
            f"INSERT INTO logs VALUES ({marks})", [n] + [event.get(field) for field in FIELDS]
        )
    return database


def main():
    directory, count = Path(sys.argv[1]), int((sys.argv[2:] or ["8"])[0])
    rng = random.Random(1)
    collection = SigmaCollection.load_ruleset([str(directory)])
    backend = sqliteBackend()
    wheres = {
        str(rule.id): [query.split(" WHERE ", 1)[1] for query in backend.convert_rule(rule)]
        for rule in collection.rules
    }
    events, expect, made = [], [], {}

    def is_hit(rule):
        return any(rule in expect[n] for n in made.get(rule, []))

    def is_missed(rule):
        return any(rule not in expect[n] for n in made.get(rule, []))

    for _ in range(ROUNDS):
        first = len(events)
        for rule in collection.rules:
            name = str(rule.id)
            if is_hit(name) and is_missed(name):
                continue
            for _ in range(count):
                event, asked = satisfying(rule, rng)
                for candidate in [event] + [near_miss(event, asked, rng) for _ in range(3)]:
                    if usable(candidate):
                        made.setdefault(name, []).append(len(events))
                        events.append(candidate)
        expect.extend(set() for _ in events[first:])
        database = table(events, first)
        for name, conditions in wheres.items():
            for where in conditions:
                for (n,) in database.execute(f"SELECT n FROM logs WHERE {where}"):
                    expect[n].add(name)
    for event, ids in zip(events, expect):
        print(json.dumps({"event": event, "expect": sorted(ids)}, ensure_ascii=False))
    hit = [name for name in wheres if is_hit(name)]
    missed = [name for name in wheres if is_missed(name)]
    print(
        f"{len(collection.rules)} rules, {len(events)} events; with a match {len(hit)}, "
        f"with a near-miss {len(missed)}",
        file=sys.stderr,
    )
    for rule in collection.rules:
        if str(rule.id) not in hit:
            print(f"no event satisfies {rule.title}", file=sys.stderr)
        if str(rule.id) not in missed:
            print(f"no near-miss of {rule.title}", file=sys.stderr)


if __name__ == "__main__":
    main()

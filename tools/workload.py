#!/usr/bin/env python3
"""A program for ./run.sh: some seconds of json, text and dicts in threads.

Prints the same text on every run, so that two runs can be compared.
"""
import hashlib
import json
import random
import threading

THREADS = 4
ROUNDS = 14
RECORDS = 3000


def records(rng):
    return [{
        "id": i,
        "name": "user%d" % rng.randrange(10**6),
        "tags": ["t%d" % rng.randrange(100) for _ in range(rng.randrange(8))],
        "text": "x" * rng.randrange(400),
        "score": rng.random(),
    } for i in range(RECORDS)]


def work(seed, digests):
    rng = random.Random(seed)
    digest = hashlib.sha256()
    kept = {}
    for _ in range(ROUNDS):
        text = json.dumps(records(rng))
        for record in json.loads(text):
            kept[record["name"]] = record
        while len(kept) > 2 * RECORDS:
            kept.pop(next(iter(kept)))
        words = text.split('"')
        words.sort()
        digest.update("".join(words).encode())
    digest.update(json.dumps(sorted(kept)).encode())
    digests[seed] = digest.hexdigest()


def main():
    digests = {}
    threads = [threading.Thread(target=work, args=(seed, digests))
               for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in sorted(digests):
        print("thread", seed, digests[seed])


if __name__ == "__main__":
    main()

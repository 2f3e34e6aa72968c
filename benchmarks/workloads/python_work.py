"""python_work.py -- a Python program that lives on dicts, strings and JSON."""

import json


def main():
    rows = [{"id": i, "name": "item %d" % i, "price": i * 1.25,
             "tags": [str(i % 7), "x" * (i % 50)]} for i in range(40000)]
    total = 0
    for turn in range(4):
        text = json.dumps(rows)
        again = json.loads(text)
        groups = {}
        for row in again:
            groups.setdefault(row["tags"][0], []).append(row["name"].upper())
        joined = {key: ",".join(sorted(names)) for key, names in groups.items()}
        total += sum(map(len, joined.values())) + len(text)
        rows.sort(key=lambda row: (row["id"] * 7919 + turn) % 40009)
    print("python", total)


if __name__ == "__main__":
    main()

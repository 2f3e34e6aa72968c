"""sqlite_test -- sqlite3 with indices, joins, windows, JSON and text search."""

import harness

SQLITE = "/usr/bin/sqlite3"
ROWS = 120000

# A multiplicative generator instead of random(): same rows on both sides.
SCRIPT = """
PRAGMA synchronous = OFF;
PRAGMA cache_size = 20000;
PRAGMA temp_store = MEMORY;
CREATE TABLE buyer(id INTEGER PRIMARY KEY, name TEXT, town TEXT);
CREATE TABLE sale(id INTEGER PRIMARY KEY, buyer INT, item TEXT, price INT);
BEGIN;
INSERT INTO buyer
  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n
                          WHERE i < {rows} / 10)
  SELECT i, printf('buyer %x', i * 7919 % 65521), 'town' || (i * 31 % 97)
  FROM n;
INSERT INTO sale
  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n
                          WHERE i < {rows})
  SELECT i, i * 48271 % ({rows} / 10) + 1,
         printf('item %d %.*c', i * 16807 % 5003, i % 60, 'x'),
         i * 69621 % 9973
  FROM n;
COMMIT;
CREATE INDEX sale_buyer ON sale(buyer);
CREATE INDEX sale_item ON sale(item, price);
CREATE INDEX buyer_town ON buyer(town);
ANALYZE;
SELECT town, count(*), sum(price), max(item) FROM sale
  JOIN buyer ON buyer.id = sale.buyer GROUP BY town ORDER BY town;
SELECT item, count(*), avg(price) FROM sale GROUP BY item
  HAVING count(*) > 1 ORDER BY 2 DESC, 1 LIMIT 500;
SELECT id, sum(price) OVER (PARTITION BY buyer ORDER BY id) AS s FROM sale
  ORDER BY s DESC, id LIMIT 300;
SELECT town, length(group_concat(name)), json_array_length(
  json_group_array(json_object('id', id, 'name', name)))
  FROM (SELECT * FROM buyer ORDER BY id) GROUP BY town ORDER BY town;
UPDATE sale SET item = upper(item) || price WHERE price % 3 = 0;
DELETE FROM sale WHERE price % 7 = 0;
CREATE VIRTUAL TABLE words USING fts5(body);
INSERT INTO words SELECT item || ' ' || price FROM sale
  WHERE id % 5 = 0 ORDER BY id;
SELECT count(*) FROM words WHERE words MATCH 'item AND 12*';
SELECT a.town, count(DISTINCT b.item) FROM buyer a JOIN sale b
  ON a.id = b.buyer WHERE b.price BETWEEN 100 AND 4000
  GROUP BY 1 ORDER BY 2 DESC, 1;
VACUUM;
PRAGMA integrity_check;
SELECT count(*), sum(price), sum(length(item)) FROM sale;
"""


def work(side):
    results = {}
    for place in ("shop.db", ":memory:"):
        out = side.run(
            [SQLITE, "-batch", "-bail", place], SCRIPT.format(rows=ROWS)
        )
        harness.check("\nok\n" in out, "integrity_check is not ok")
        results["output of " + place] = digest_of(out)
    side.expect_served(processes=2)
    return results


def digest_of(out):
    return "%d lines, %s" % (out.count("\n"), harness.digest(out))


if __name__ == "__main__":
    harness.main(work)

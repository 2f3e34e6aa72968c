-- sqlite_work.sql -- an in-memory database: inserts, an index, joins, updates.
PRAGMA cache_size = -65536;
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER, item TEXT, amount REAL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 150000)
  INSERT INTO orders SELECT i, (i * 7919) % 5003, 'item number ' || (i % 997) || hex(i * 31), i * 0.5 FROM n;
CREATE INDEX by_customer ON orders (customer, item);
CREATE TABLE customers AS
  SELECT customer AS id, count(*) AS orders, group_concat(substr(item, 1, 9)) AS items FROM orders GROUP BY customer;
UPDATE orders SET item = upper(item) || '!' WHERE id % 3 = 0;
SELECT count(*), sum(length(items)) FROM customers;
SELECT sum(length(o.item)), count(*) FROM orders o JOIN customers c ON c.id = o.customer WHERE c.orders > 10;
SELECT count(DISTINCT item) FROM orders;
DELETE FROM orders WHERE id % 2 = 0;
SELECT count(*), max(item) FROM orders;

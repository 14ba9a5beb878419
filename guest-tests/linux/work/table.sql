-- SPDX-License-Identifier: BSD-2-Clause
-- A table of pseudo-random numbers (a linear congruential generator), an index, joins, updates, deletions. The results
-- are in table.expected.
PRAGMA journal_mode = WAL;
CREATE TABLE numbers (id INTEGER PRIMARY KEY, value INTEGER NOT NULL, text TEXT NOT NULL);
WITH RECURSIVE g(id, value) AS (
    SELECT 1, 12345 UNION ALL SELECT id + 1, (value * 1103515245 + 12345) % 2147483648 FROM g WHERE id < 4000)
INSERT INTO numbers SELECT id, value, printf('%08x', value) FROM g;
CREATE INDEX by_value ON numbers (value);
CREATE INDEX by_text ON numbers (text);
SELECT count(*), sum(value), min(value), max(value) FROM numbers;
SELECT count(*) FROM numbers a JOIN numbers b ON b.value = (a.value * 1103515245 + 12345) % 2147483648;
UPDATE numbers SET value = value / 2 WHERE id % 3 = 0;
DELETE FROM numbers WHERE id % 7 = 0;
SELECT count(*), sum(value) FROM numbers;
SELECT group_concat(text, ' ') FROM (SELECT text FROM numbers ORDER BY value LIMIT 5);
SELECT substr(text, 1, 1) AS first, count(*) FROM numbers GROUP BY first ORDER BY first LIMIT 3;
PRAGMA integrity_check;
VACUUM;
PRAGMA integrity_check;

"""php_test -- php opens its extensions with RTLD_DEEPBIND, which crashes under
other preloaded allocators; its own allocator is turned off in half of the runs.
"""

import harness

PHP = "/usr/bin/php"
SCRIPT = r"""
<?php
function digest($value) { return substr(md5(serialize($value)), 0, 12); }
mt_srand(42);
$rows = [];
for ($i = 0; $i < 60000; $i++) {
  $rows[] = ["id" => $i, "name" => str_repeat(chr(97 + $i % 26), $i % 40),
             "value" => mt_rand(0, 9999)];
}
usort($rows, fn($a, $b) => [$a["value"], $a["id"]] <=> [$b["value"], $b["id"]]);
echo "sorted ", digest($rows), "\n";
$text = json_encode($rows);
echo "json ", strlen($text), " ", digest(json_decode($text, true)), "\n";
$words = [];
preg_match_all('/"name":"([a-z]*)"/', $text, $found);
foreach ($found[1] as $word) $words[$word] = ($words[$word] ?? 0) + 1;
ksort($words);
echo "words ", count($words), " ", digest($words), "\n";
$packed = gzcompress($text, 6);
echo "zlib ", digest(gzuncompress($packed) === $text), "\n";
function numbers($n) { for ($i = 0; $i < $n; $i++) yield $i => $i * $i; }
$sum = 0;
foreach (numbers(200000) as $square) $sum = ($sum + $square) % 1000003;
echo "generator $sum\n";
$tree = null;
for ($i = 0; $i < 100000; $i++) $tree = [$i, $tree];
for ($depth = 0; $tree !== null; $depth++) $tree = $tree[1];
echo "depth $depth\n";
echo "extensions ", count(get_loaded_extensions()) > 10 ? "there" : "few", "\n";
"""


def work(side):
    results = {}
    for own in ("1", "0"):  # its own allocator over malloc, or malloc alone
        extra = {"USE_ZEND_ALLOC": own}
        name = " (USE_ZEND_ALLOC=%s)" % own
        out = side.run([PHP, "-r", "echo 1;"], extra=extra)
        harness.check(out == "1", "php -r 'echo 1;' printed %r", out)
        script = side.write("work.php", SCRIPT.lstrip())
        results["output" + name] = side.run(
            [PHP, "-d", "memory_limit=-1", script], extra=extra
        )
    side.expect_served(processes=4)
    return results


if __name__ == "__main__":
    harness.main(work)

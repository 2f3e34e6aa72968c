#!/usr/bin/env python3
"""generate.py -- computes the size-class tables from stated bounds on waste.

What is bounded
  step   The smallest request that a class of `size` bytes serves is one byte
         more than the class before it. size - previous is at most 16 bytes, or
         1/8 of size up to 8 KiB, or 1/7 of size above.
  span   The tail of a span that no object fits in, and the 64-byte span head,
         are at most 1/16 of the span; 1/8 where a page is 256 KiB, since hardly
         any size above 64 KiB divides so few pages.
  runs   Above 256 KiB each doubling is cut in four (the look-up is a count of
         leading zeros), so a step is at most 1/5 of the size.

How the number of classes was chosen
  It was not: it is the smallest number that keeps the bounds, found by dynamic
  programming over multiples of 16; among tables of that number, the one of
  least mean waste (sizes taken as evenly spread on a log scale). The bounds
  were chosen from what `generate.py --survey` prints. With 8 KiB pages:

    step up to 8 KiB, above   small classes   mean waste
    1/7   1/7                       64            9.9 %
    1/8   1/7                       70            9.6 %
    1/8   1/8                       80            8.8 %
    1/9   1/9                       83            9.1 %
    1/10  1/10                      89            9.1 %

  Steps closer than 1/8 gain nothing before 1/12 and 109 classes: they leave
  less choice of sizes that divide a span. Small sizes hold most objects of most
  programs, so they have the tighter bound; large ones the wider, since each
  class costs a slab header per thread or CPU and splits the free memory once
  more. 4, 8, 32 and 256 KiB pages all come to 70.

Fixed points: every power of two from 16 B is a class (aligned requests walk up
to one at worst), and 3 * 2^k above 8 KiB where the bounds allow, since buffers
that grow by doubling have such sizes, and it costs no class. Round sizes win:
a multiple of 2^k / 64 where that needs no more classes than a finer grid.

Length of a span: the fewest pages that keep the span bound, hold a quarter of a
batch (a refill visits at most four fresh spans), and for which the reciprocal
ceil(2^32 / size) divides each offset exactly.

Usage: generate.py            write generated/*.inc
       generate.py --check    fail if they differ from what would be written
       generate.py --report   print the classes and their waste
       generate.py --survey   print number and mean waste for other bounds
"""

import argparse
import math
import pathlib
import sys

PAGE_SHIFTS = (12, 13, 15, 18)
ALIGN = 16
MAX_SMALL = 256 * 1024
MAX_RUN = 4 * 1024 * 1024
HEAD_BYTES = 64
FINE_STEP_UP_TO = 8 * 1024
STEP_PART_FINE = 8  # a step is at most 1/8 of the size ...
STEP_PART_COARSE = 7  # ... and 1/7 above FINE_STEP_UP_TO
BATCH_BYTES = 64 * 1024
GRIDS = (64, 256, 1024)
RECIPROCAL_ONE = 1 << 32


class Bounds:
    """What a table of one page size has to keep."""

    def __init__(
        self, page_shift, fine=STEP_PART_FINE, coarse=STEP_PART_COARSE
    ):
        self.page = 1 << page_shift
        self.fine = fine
        self.coarse = coarse
        self.span_part = 8 if page_shift == 18 else 16
        self.span_bytes_max = MAX_SMALL if page_shift <= 13 else 4 * MAX_SMALL

    def step_ok(self, previous, size):
        part = self.fine if size <= FINE_STEP_UP_TO else self.coarse
        step = size - previous
        return step <= ALIGN or step * part <= size


def batch_of(size):
    return max(2, min(32, BATCH_BYTES // size))


def reciprocal_of(size, objects):
    """ceil(2^32 / size), or 1 where only offset 0 is an object."""
    return 1 if objects == 1 else -(-RECIPROCAL_ONE // size)


def reciprocal_exact(size, objects):
    """Index and remainder test hold for each byte of the span.

    For offset = q * size + r the product is q * 2^32 + q * error + r *
    reciprocal. The worst byte is the last of the last object: its fraction
    stays below 2^32 exactly if objects * error < reciprocal.
    """
    reciprocal = reciprocal_of(size, objects)
    error = reciprocal * size - RECIPROCAL_ONE
    return objects == 1 or objects * error < reciprocal


def span_of(size, bounds):
    """(pages, objects, waste) of the shortest good span, or None."""
    objects_min = -(-batch_of(size) // 4)
    for pages in range(1, bounds.span_bytes_max // bounds.page + 1):
        span_bytes = pages * bounds.page
        objects = span_bytes // size
        if objects < objects_min or not reciprocal_exact(size, objects):
            continue
        waste_bytes = span_bytes - objects * size + HEAD_BYTES
        if waste_bytes * bounds.span_part <= span_bytes:
            return pages, objects, waste_bytes / span_bytes
    return None


def fixed_points(bounds):
    points = []
    size = ALIGN
    while size < MAX_SMALL:
        points.append(size)
        middle = size * 3 // 2
        if size >= FINE_STEP_UP_TO and span_of(middle, bounds):
            points.append(middle)
        size *= 2
    return points + [MAX_SMALL]


def mean_waste(previous, size, span_waste):
    """Integral over log(request) in (previous, size] of waste / size."""
    return (
        math.log(size / previous)
        - (1 - previous / size)
        + span_waste * math.log(size / previous)
    )


def fill_interval(low, high, grid, bounds):
    """Fewest sizes in (low, high] within bounds: (count, waste, sizes)."""
    unit = max(ALIGN, (1 << (low.bit_length() - 1)) // grid)
    best = {low: (0, 0.0, [])}
    for size in [*range(low + unit, high, unit), high]:
        span = span_of(size, bounds)
        if span is None:
            continue
        choice = None
        for previous in reversed(best):
            if not bounds.step_ok(previous, size):
                break
            count, waste, sizes = best[previous]
            waste += mean_waste(previous, size, span[2])
            if choice is None or (count + 1, waste) < choice[:2]:
                choice = (count + 1, waste, sizes + [size])
        if choice:
            best[size] = choice
    return best.get(high)


def small_sizes(bounds):
    """(sizes, mean waste) of the small classes; None if the bounds fail."""
    points = fixed_points(bounds)
    sizes, waste = [points[0]], 0.0
    for low, high in zip(points, points[1:]):
        found = [f for g in GRIDS if (f := fill_interval(low, high, g, bounds))]
        if not found:
            return None
        best = min(found, key=lambda f: f[0])  # the first, coarsest grid wins
        sizes += best[2]
        waste += best[1]
    return sizes, waste / math.log(MAX_SMALL / ALIGN)


def run_sizes():
    low = MAX_SMALL
    while low < MAX_RUN:
        yield from (low + low // 4 * i for i in range(1, 5))
        low *= 2


def rows_of(page_shift):
    """Rows (size, reciprocal, pages, objects, batch), small classes, waste."""
    bounds = Bounds(page_shift)
    sizes, waste = small_sizes(bounds)
    rows = []
    for size in sizes:
        pages, objects, _ = span_of(size, bounds)
        reciprocal = reciprocal_of(size, objects)
        rows.append((size, reciprocal, pages, objects, batch_of(size)))
    for size in run_sizes():
        rows.append((size, 1, -(-size // bounds.page), 1, 1))
    return rows, len(sizes), waste


def row_waste(rows, i, page):
    """(step, span) waste of row i as fractions."""
    size, _, pages, objects, _ = rows[i]
    previous = rows[i - 1][0] if i else 0
    span_bytes = pages * page
    tail = span_bytes - objects * size + HEAD_BYTES
    return (size - previous - 1) / size, tail / span_bytes


def generate(page_shift):
    """The texts of the two files of one page size, by file name."""
    rows, small, _ = rows_of(page_shift)
    page_kib = 1 << page_shift >> 10
    title = "// Written by size_classes/generate.py for "
    title += f"{page_kib} KiB pages. Do not edit.\n"
    constants = title + (
        "enum {\n"
        f"  TCX_RUN_CLASS_FIRST = {small + 1},\n"
        f"  TCX_SIZE_CLASS_COUNT = {len(rows) + 1},\n"
        "};\n"
    )
    table = title + "// size, reciprocal, pages, objects, batch, reserved\n"
    table += "{0, 0, 0, 0, 0, 0},\n"
    for i, row in enumerate(rows):
        step, span = row_waste(rows, i, 1 << page_shift)
        table += "{%d, %du, %d, %d, %d, 0}," % row
        table += f"  // {i + 1}: step {step:.1%}, span {span:.1%}\n"
    return {
        f"p{page_shift}_constants.inc": constants,
        f"p{page_shift}_table.inc": table,
    }


def report():
    print("page KiB  small  all  worst step  worst span  mean waste  run span")
    for page_shift in PAGE_SHIFTS:
        rows, small, mean = rows_of(page_shift)
        waste = [row_waste(rows, i, 1 << page_shift) for i in range(len(rows))]
        step = max(w[0] for w, r in zip(waste[:small], rows) if r[0] > 128)
        span = max(w[1] for w in waste[:small])
        runs = max(w[1] for w in waste[small:])
        print(
            f"{1 << page_shift >> 10:8}  {small:5}  {len(rows):3}  {step:10.1%}"
            f"  {span:10.1%}  {mean:10.1%}  {runs:10.1%}"
        )


def survey():
    print("page KiB  step to 8 KiB, above  small classes  mean waste")
    bounds = [(6, 6), (7, 7), (8, 7), (8, 8), (9, 9), (10, 10), (12, 12)]
    for page_shift in PAGE_SHIFTS:
        for fine, coarse in bounds:
            table = small_sizes(Bounds(page_shift, fine, coarse))
            text = f"{len(table[0]):13}  {table[1]:10.1%}" if table else "none"
            page_kib = 1 << page_shift >> 10
            print(f"{page_kib:8}  1/{fine:<2} 1/{coarse:<12}  {text}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--survey", action="store_true")
    options = parser.parse_args()
    if options.report or options.survey:
        report() if options.report else survey()
        return 0
    folder = pathlib.Path(__file__).parent / "generated"
    stale = []
    for page_shift in PAGE_SHIFTS:
        for name, text in generate(page_shift).items():
            path = folder / name
            if not options.check:
                folder.mkdir(exist_ok=True)
                path.write_text(text)
            elif not path.exists() or path.read_text() != text:
                stale.append(name)
    for name in stale:
        print(f"generated/{name} is stale: run size_classes/generate.py")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())

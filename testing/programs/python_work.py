"""python_work -- what python_test runs on both sides; prints a digest."""

import collections
import hashlib
import json
import multiprocessing
import queue
import re
import threading
import zlib

THREADS = 4
DOCUMENTS = 60
FORKED = 3


def document(seed):
    """A nested document that depends on `seed` alone."""
    state = seed * 2654435761 % 2**32
    items = []
    for i in range(300):
        state = (state * 1664525 + 1013904223) % 2**32
        items.append(
            {
                "id": state,
                "name": "n%x" % (state >> 7),
                "tags": ["t%d" % (state >> k & 63) for k in range(state % 9)],
                "text": "ab" * (state % 400),
                "pair": [i, i / 7.0, None, state % 2 == 0],
            }
        )
    return {"seed": seed, "items": items}


def churn(seed):
    """Serializes, parses, sorts, counts and packs; returns a digest."""
    text = json.dumps(document(seed), indent=seed % 3)
    back = json.loads(text)
    words = collections.Counter(re.findall(r"[a-z]+\d*", text))
    rows = sorted(back["items"], key=lambda row: (row["name"], row["id"]))
    packed = zlib.compress(json.dumps(rows).encode(), 6)
    total = hashlib.sha256(zlib.decompress(packed))
    total.update(repr(sorted(words.items())).encode())
    return total.hexdigest()


def in_threads():
    """Strings made in one thread and dropped in another."""
    seeds, done = queue.Queue(), queue.Queue()

    def serve():
        while (seed := seeds.get()) is not None:
            done.put((seed, churn(seed)))

    threads = [threading.Thread(target=serve) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for seed in list(range(DOCUMENTS)) + [None] * THREADS:
        seeds.put(seed)
    for thread in threads:
        thread.join()
    return sorted(done.queue)


def short_threads():
    """Threads that come and go, each with a little work."""
    total = []
    for i in range(600):
        thread = threading.Thread(target=lambda i=i: total.append("x" * i))
        thread.start()
        thread.join()
    return hashlib.sha256("".join(total).encode()).hexdigest()


def in_processes():
    """Forks while another thread allocates, then works in the children."""
    stop = threading.Event()

    def allocate():
        while not stop.is_set():
            [bytearray(size) for size in range(0, 4000, 16)]

    noise = threading.Thread(target=allocate)
    noise.start()
    fork = multiprocessing.get_context("fork")
    with fork.Pool(FORKED) as pool:
        results = pool.map(churn, range(DOCUMENTS, 2 * DOCUMENTS), 4)
        pool.close()
        pool.join()
    stop.set()
    noise.join()
    return results


def big_blocks():
    """Lists and buffers that grow through realloc to tens of megabytes."""
    grown, numbers = bytearray(), []
    for i in range(40000):
        grown += b"0123456789abcdef" * (i % 50)
        numbers.append(i * i)
    grown[1000:2000] = b"z" * 500000
    return hashlib.sha256(grown + repr(numbers).encode()).hexdigest()


if __name__ == "__main__":
    for part in (in_threads, short_threads, in_processes, big_blocks):
        print(part.__name__, hashlib.sha256(repr(part()).encode()).hexdigest())

"""python_short -- testing/programs/python_work.py, less of it."""

import hashlib

import python_work

python_work.DOCUMENTS = 6
python_work.FORKED = 2

if __name__ == "__main__":
    for part in (python_work.in_threads, python_work.in_processes):
        print(part.__name__, hashlib.sha256(repr(part()).encode()).hexdigest())

"""node_test -- node: JSON, maps, buffers, compression, worker threads."""

import os

import harness

NODE = "/usr/bin/node"
HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = os.path.join(HERE, "node_work.js")


def work(side):
    out = side.run([NODE, PROGRAM])
    side.expect_served()
    return {"lines": out.count("\n"), "output": harness.digest(out)}


if __name__ == "__main__":
    harness.main(work)

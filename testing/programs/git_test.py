"""git_test -- git: import, clone, repack, blame, merge, log and fsck."""

import random

import harness

GIT = "/usr/bin/git"
COMMITS = 400
FILES = 120
WHO = "Test <test@example.com>"
CONFIG = """
[user]
  name = Test
  email = test@example.com
[pack]
  threads = 2
[gc]
  auto = 0
[safe]
  directory = *
[init]
  defaultBranch = main
"""


def history():
    """A stream for fast-import: files that grow, change and go; a branch."""
    rand = random.Random(3)
    texts = {}
    for i in range(COMMITS):
        branch = "side" if COMMITS // 2 < i and i % 5 == 0 else "main"
        lines = ["commit refs/heads/" + branch, "mark :%d" % (i + 1)]
        lines += ["committer %s %d +0000" % (WHO, 1700000000 + i * 60)]
        message = "change %d\n\n%s" % (i, "why " * (i % 30))
        lines += ["data %d" % len(message), message]
        if branch == "side" and i == COMMITS // 2 + 5:
            lines.append("from :%d" % (i // 2))
        for _ in range(6):
            lines += change(rand, texts, branch, i)
        yield "\n".join(lines) + "\n"


def change(rand, texts, branch, i):
    """One file's new text as a part of a commit."""
    name = "%s/d%d/f%d.txt" % (branch, rand.randrange(9), rand.randrange(FILES))
    text = texts.setdefault(name, [])
    at = rand.randrange(len(text) + 1)
    text[at : at + rand.randrange(4)] = [
        "line %x of change %d" % (rand.getrandbits(60), i)
        for _ in range(rand.randrange(1, 40))
    ]
    body = "\n".join(text) + "\n"
    return ["M 100644 inline " + name, "data %d" % len(body), body]


def work(side):
    side.write(".gitconfig", CONFIG)
    extra = {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_COMMITTER_DATE": "1800000000 +0000",
        "GIT_AUTHOR_DATE": "1800000000 +0000",
    }

    def git(folder, *words, stdin=""):
        command = [GIT, "-C", side.path(folder)] + list(words)
        return side.run(command, stdin, extra)

    side.run([GIT, "init", "-q", side.path("first")], extra=extra)
    stream = "".join(history())
    git("first", "fast-import", "--quiet", "--depth=20", stdin=stream)
    clone = "file://" + side.path("first")
    git(".", "clone", "-q", clone, side.path("second"))
    git("second", "merge", "-q", "-m", "both", "origin/side")
    git("second", "repack", "-adfq", "--depth=50", "--window=60")
    git("second", "gc", "-q", "--prune=now")
    fsck = git("second", "fsck", "--full", "--strict", "--no-progress")
    names = git("second", "ls-files").split()
    results = {
        "head": git("second", "rev-parse", "HEAD"),
        "fsck": fsck,
        "log": git("second", "log", "-p", "--stat", "-M", "--graph"),
        "objects": git("second", "cat-file", "--batch-all-objects", "--batch"),
        "grep": git("second", "grep", "-n", "-E", "line [0-9a-f]*7f"),
        "status": git("second", "status", "--porcelain"),
        "blame": "".join(git("second", "blame", name) for name in names[:25]),
    }
    side.expect_served(processes=30)
    return {key: harness.digest(text) for key, text in results.items()}


if __name__ == "__main__":
    harness.main(work)

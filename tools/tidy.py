#!/usr/bin/env python3
"""The style test: what the formatters and compilers do not see.

usage: tidy.py            from anywhere; exits 1 and names file:line on each miss

Rules
  a C or C++ file has at most 500 lines, a line at most 80 columns, a function of
  C at most 70 lines; no tabs, no blanks at the end of a line;
  an include guard is named after its path;
  a header compiles alone, as C11 and as C++17;
  each x.c or x_y.c of the library belongs to a header x*.h;
  the library never calls the C library where that could allocate or block;
  a TODO names its issue: TODO(#12);
  every source file is named in the BUILD file of its package.
"""
import concurrent.futures
import os
import re
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LIBRARY = ("base", "size_classes", "pagemap", "backend", "middle", "frontend",
           "libc", "telemetry", "include")
FILE_LINES, FUNCTION_LINES, COLUMNS = 500, 70, 80

# Folders whose .c have no .h of their name.
EXEMPT = ("libc/",)  # Its headers are the C library's.

BANNED = [
    (re.compile(r"(?<![\w.>])%s" % word), name)
    for word, name in [
        (r"(?:malloc|calloc|realloc)\s*\(", "malloc"),
        (r"(?:free|strdup)\s*\(", "free, strdup"),
        (r"(?:v?f?printf|v?s?n?printf|puts|fputs|perror)\s*\(", "stdio"),
        (r"pthread_(?:mutex|cond|once|rwlock)\w*", "pthread locks"),
        (r"assert\s*\(", "assert (use TCX_ASSERT, TCX_CHECK)"),
        (r"alloca\s*\(", "alloca"),
        (r"(?:exit|strtok|getenv)\s*\(", "exit, strtok, getenv"),
    ]
]
# The file that defines malloc names it.
BANNED_EXEMPT = ("libc/", "base/absl_shim")

misses = []


def miss(path, line, text):
    misses.append("%s:%d: %s" % (path, line, text))


def git_files():
    """Every file of the tree that git keeps or would keep."""
    out = subprocess.check_output(
        ["git", "ls-files", "-z", "--cached", "--others",
         "--exclude-standard"], cwd=TOP)
    names = sorted(set(out.decode().split("\0")) - {""})
    return [n for n in names if os.path.isfile(os.path.join(TOP, n))]


def read(path):
    with open(os.path.join(TOP, path), encoding="utf-8") as f:
        return f.read()


def without_comments(text):
    """The text with comments and strings blanked, lines kept."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match.group(0))
    return re.sub(
        r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'",
        blank, text, flags=re.S)


def is_test(path):
    return (path.startswith(("testing/", "benchmarks/", "examples/")) or
            re.search(r"_(test|fuzz|benchmark|testing)\.(c|cc|h)$", path) or
            os.path.basename(path).startswith(("fake_", "test_")))


def in_library(path, text):
    """A header that includes C++ is a test's."""
    return path.startswith(tuple(d + "/" for d in LIBRARY)) and \
        not is_test(path) and \
        not (path.endswith(".h") and
             re.search(r"^#include <(\w+|gtest/.*)>$", text, re.M))


def check_text(path, text):
    lines = text.split("\n")
    if len(lines) - 1 > FILE_LINES:
        miss(path, FILE_LINES + 1, "%d lines" % (len(lines) - 1))
    for number, line in enumerate(lines, 1):
        if len(line) > COLUMNS:
            miss(path, number, "%d columns" % len(line))
        if "\t" in line or line != line.rstrip():
            miss(path, number, "a tab, or blanks at the end")
        if re.search(r"\b(TODO|FIXME|XXX)\b(?!\(#\d+\))", line):
            miss(path, number, "write TODO(#issue)")
    if not text.endswith("\n"):
        miss(path, len(lines), "no newline at the end")


def check_functions(path, text):
    """A function of C starts at column 0 with a line that opens a brace."""
    begin = None
    last = ""
    for number, line in enumerate(without_comments(text).split("\n"), 1):
        if begin is None:
            if line.endswith("{") and re.search(r"\)\s*\{$", line) and \
                    not line.startswith((" ", "}")) or line == "{":
                begin = number
            elif last.endswith((",", "(")) and re.search(r"\)\s*\{$", line):
                begin = number  # The last line of a long parameter list.
        if line.startswith("}") and begin is not None:
            if number - begin > FUNCTION_LINES:
                miss(path, begin, "a function of %d lines" % (number - begin))
            begin = None
        last = line


def check_guard(path, text):
    guard = "TCX_" + re.sub(r"[^A-Z0-9]", "_", path.upper()) + "_"
    guard = guard.replace("TCX_INCLUDE_TCX_", "TCX_")
    if "#ifndef %s\n#define %s\n" % (guard, guard) not in text:
        miss(path, 1, "the include guard must be " + guard)
    elif not text.rstrip().endswith("#endif  // " + guard):
        miss(path, text.count("\n"), "must end in #endif  // " + guard)


def check_banned(path, text):
    if path.startswith(BANNED_EXEMPT):
        return
    for number, line in enumerate(without_comments(text).split("\n"), 1):
        for pattern, name in BANNED:
            if pattern.search(line):
                miss(path, number, "not in the library: " + name)


def check_pair(path, names):
    """x.c and its parts x_y.c belong to a header x*.h."""
    word = re.match(r"(.*/[a-z0-9]+)[^/]*$", path).group(1)
    if not path.startswith(EXEMPT) and not any(
            n.startswith(word) and n.endswith(".h") for n in names):
        miss(path, 1, "has no %s.h" % word)


def check_named(path, names):
    """Some BUILD file upward names the file, or globs for its kind."""
    folder = os.path.dirname(path)
    while folder:
        build = folder + "/BUILD.bazel"
        if build in names:
            text = read(build)
            inside = os.path.relpath(path, folder)
            globs = re.findall(r"\"([^\"\n]*\*[^\"\n]*)\"", text)
            if '"%s"' % inside in text or any(
                    re.fullmatch(re.escape(g).replace(r"\*\*/", "(.*/)?")
                                 .replace(r"\*", "[^/]*"), inside)
                    for g in globs):
                return
            # A loop may add folder and ending.
            stem = os.path.splitext(os.path.basename(inside))[0]
            if '"%s"' % stem in text:
                return
            miss(path, 1, "is in no target of " + build)
            return
        folder = os.path.dirname(folder)
    miss(path, 1, "is in no package of Bazel")


def compile_alone(path):
    """Returns what the compilers say of a header that stands alone."""
    said = ""
    cross = "aarch64-linux-gnu-" if path.endswith("_aarch64.h") else ""
    for language, standard, compiler in [("c", "c11", "gcc"),
                                         ("c++", "c++17", "g++")]:
        run = subprocess.run(
            [cross + compiler, "-std=" + standard, "-fsyntax-only", "-Wall", "-Wextra",
             "-Werror", "-I", TOP, "-I", TOP + "/include",
             "-DTCX_PAGE_SHIFT=13", "-U_GNU_SOURCE", "-D_GNU_SOURCE",
             "-x", language, "-include",
             os.path.join(TOP, path), "/dev/null"],
            capture_output=True, text=True, check=False)
        if run.returncode != 0:
            said += "as %s: %s" % (standard, run.stderr)
    return said


def main():
    names = set(git_files())
    sources = sorted(n for n in names
                     if n.endswith((".c", ".cc", ".h")) and
                     not n.startswith("testing/consumer/"))
    headers = []
    for path in sources:
        text = read(path)
        check_text(path, text)
        check_named(path, names)
        if not path.endswith(".cc"):
            check_functions(path, text)
        if path.endswith(".h"):
            check_guard(path, text)
        if in_library(path, text):
            if path.endswith(".h"):
                headers.append(path)
            if not path.endswith(".cc"):
                check_banned(path, text)
            if path.endswith(".c"):
                check_pair(path, names)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for path, said in zip(headers, pool.map(compile_alone, headers)):
            if said:
                miss(path, 1, "does not stand alone " + said.strip())
    for text in misses:
        print(text)
    print("tidy: %d files, %d misses" % (len(sources), len(misses)))
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())

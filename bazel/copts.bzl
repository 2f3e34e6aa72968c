"""How tcx is compiled, wherever it is built.

These are options of the targets and not of .bazelrc, so that a program that
depends on tcx gets the same allocator, whatever its own mode is.
"""

load(":page_sizes.bzl", "PAGE_SHIFTS")

# Keys of select() must be strings, and complete where tcx is @tcx.
def _config(name):
    return str(Label("//bazel/config:" + name))

_WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Wshadow",
    "-Wundef",
    "-Wvla",
    "-Wcast-qual",
    "-Wwrite-strings",
]

_C = [
    "-std=c11",
    "-D_GNU_SOURCE",
    "-Wstrict-prototypes",
    "-Wmissing-prototypes",
    "-Wold-style-definition",
]

_CXX = ["-std=c++17"]

# NDEBUG turns TCX_ASSERT off.  Structs may be larger with assertions, so tests
# and benchmarks agree with the library.
_ASSERTIONS = select({
    _config("assertions_on"): ["-UNDEBUG"],
    "//conditions:default": ["-DNDEBUG"],
})

# Slow modes of the caller must not make a slow allocator.
_OPTIMIZE = select({
    _config("dbg"): ["-O0"],
    "//conditions:default": ["-O2"],
})

# No canary on the fast paths; gcc must not take our malloc for its built-in
# one. Frame pointers let a fatal report walk the stack; only the ENTRY_POINTS do
# without.
_ALLOCATOR = [
    "-g",
    "-fvisibility=hidden",
    "-ftls-model=initial-exec",
    "-fno-builtin-malloc",
    "-fno-builtin-calloc",
    "-fno-builtin-free",
    "-fno-builtin-realloc",
    "-fno-semantic-interposition",
    "-fno-stack-protector",
    "-fno-omit-frame-pointer",
    "-U_FORTIFY_SOURCE",
]

# No call through the PLT. On arm64 the linker cannot turn the option's indirect
# calls into direct ones where it finds the function, as it does on x86-64.
_NO_PLT = select({
    "@platforms//cpu:x86_64": ["-fno-plt"],
    "//conditions:default": [],
})

# For the files of the fast paths: leaf functions that leave the caller's frame
# pointer alone, tail-call their slow paths by a short jump, and begin with a
# cache line. (What is no leaf keeps its frame: the stack of a report goes
# through it.)
ENTRY_POINTS = [
    "-momit-leaf-frame-pointer",
    "-falign-functions=64",
    "-fno-reorder-blocks-and-partition",
]

PAGE_DEFINES = select({
    _config("page_size_" + size): ["TCX_PAGE_SHIFT=%d" % shift]
    for size, shift in PAGE_SHIFTS.items()
})

def _is_cxx(srcs):
    cxx = [s for s in srcs if s.endswith(".cc")]
    c = [s for s in srcs if s.endswith(".c")]
    if cxx and c:
        fail("C and C++ want targets of their own: %s" % srcs)
    return len(cxx) > 0

def library_copts(srcs):
    """Options for sources of the library, all of one language."""
    language = _CXX + ["-fno-exceptions", "-fno-rtti"] if _is_cxx(srcs) else _C
    return language + _WARNINGS + _ALLOCATOR + _NO_PLT + _OPTIMIZE + _ASSERTIONS

def test_copts(srcs):
    """Options for tests and benchmarks, all of one language."""
    return (_CXX if _is_cxx(srcs) else _C) + _WARNINGS + _ASSERTIONS

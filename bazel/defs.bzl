"""The macros of tcx: one place for libraries, tests, benchmarks, fuzzers.

    tcx_cc_library    a module of the library
    tcx_cc_test       a googletest, and its variants: sanitizers, page sizes,
                      front and back ends
    tcx_cc_benchmark  a google-benchmark program, optimized, and a smoke test
    tcx_fuzz_test     a libFuzzer target that "bazel test" runs for a while
    tcx_release       the product (optimized, no assertions) as data of a test
"""

load("@rules_cc//cc:cc_binary.bzl", "cc_binary")
load("@rules_cc//cc:cc_library.bzl", "cc_library")
load("@rules_cc//cc:cc_test.bzl", "cc_test")
load(":copts.bzl", "PAGE_DEFINES", "library_copts", "test_copts")
load(":settings.bzl", "variant_binary", "variant_test")

_GTEST_MAIN = str(Label("//bazel:gtest_main"))
_BENCHMARK_MAIN = str(Label("//bazel:benchmark_main"))
_FUZZ_MAIN = str(Label("//testing:fuzz_main"))
_SANITIZER_OPTIONS = str(Label("//testing:sanitizer_options"))

def tcx_cc_library(
        name,
        srcs = [],
        hdrs = [],
        deps = [],
        copts = [],
        cpu_srcs = {},
        local_defines = [],
        **kwargs):
    """A module of the allocator: C11, or C++17 without exceptions.

    Args:
      name: of the cc_library.
      srcs: .c files (and private .h), or .cc files; not both, no select().
      hdrs: as in cc_library.
      deps: as in cc_library.
      copts: after those of every module.
      cpu_srcs: "x86_64", "aarch64" -> files (.S, .h) for that processor alone;
        the module is compatible with no other.
      local_defines: beside TCX_PAGE_SHIFT.
      **kwargs: passed to cc_library.
    """
    if cpu_srcs:
        cpus = {"@platforms//cpu:" + cpu: cpu for cpu in cpu_srcs}
        chosen = {c: cpu_srcs[cpu] for c, cpu in cpus.items()}
        compatible = {c: [] for c in cpus}
        chosen["//conditions:default"] = []
        compatible["//conditions:default"] = ["@platforms//:incompatible"]
        kwargs = dict(kwargs, target_compatible_with = select(compatible))
        all_srcs = srcs + select(chosen)
    else:
        all_srcs = srcs
    cc_library(
        name = name,
        srcs = all_srcs,
        hdrs = hdrs,
        copts = library_copts(srcs) + copts,
        linkstatic = True,
        local_defines = PAGE_DEFINES + local_defines,
        deps = deps,
        **kwargs
    )

def tcx_cc_test(
        name,
        srcs,
        deps = [],
        sanitizers = [],
        page_sizes = [],
        combinations = [],
        gtest = True,
        size = "small",
        args = [],
        copts = [],
        data = [],
        local_defines = [],
        malloc = None,
        tags = [],
        timeout = None,
        **kwargs):
    """A cc_test, and NAME_<variant> for each sanitizer, page size, combination.

    Args:
      name: of the test.
      srcs: as in cc_test, of one language.
      deps: of the test; gtest_main is added.
      sanitizers: of "asan", "tsan", "ubsan".
      page_sizes: of "4k", "32k", "256k"; the test itself runs on 8k.
      combinations: front and back ends, as "perthread_pageheap"; the test itself
        runs on percpu and hpaa.
      gtest: False for a test with a main() of its own.
      size: of each of the tests.
      args: of each of the tests.
      copts: added.
      data: of each of the tests.
      local_defines: beside TCX_PAGE_SHIFT.
      malloc: as in cc_test.
      tags: of each of the tests; a variant has the parts of its name besides.
      timeout: of each of the tests.
      **kwargs: passed to cc_test.
    """
    if malloc:
        # Bazel counts the lines of deps and data, not those of malloc.
        kwargs = dict(kwargs, malloc = malloc)
        counted = [malloc]
    else:
        counted = []
    cc_test(
        name = name,
        size = size,
        timeout = timeout,
        srcs = srcs,
        args = args,
        copts = test_copts(srcs) + copts,
        data = data + counted,
        linkstatic = True,
        local_defines = PAGE_DEFINES + local_defines,
        tags = tags,
        deps = deps + ([_GTEST_MAIN] if gtest else []) + [_SANITIZER_OPTIONS],
        **kwargs
    )
    variants = [(s, s, "") for s in sanitizers]
    variants += [(c, "", c) for c in page_sizes + combinations]
    for suffix, sanitizer, combination in variants:
        variant_test(
            name = name + "_" + suffix,
            size = size,
            timeout = timeout,
            actual = ":" + name,
            args = args,
            combination = combination,
            data = data,
            sanitizer = sanitizer,
            tags = tags + suffix.split("_"),
        )

def tcx_cc_benchmark(
        name,
        srcs,
        deps = [],
        mallocs = {},
        copts = [],
        tags = [],
        **kwargs):
    """A google-benchmark program, always optimized, and NAME_smoke_test.

    Args:
      name: of the program.
      srcs: C++.
      deps: of the program; benchmark_main is added.
      mallocs: suffix -> value of malloc =; then a program NAME_<suffix> for
        each, and no NAME.
      copts: added.
      tags: of the smoke tests.
      **kwargs: passed to cc_binary.
    """
    default = "@bazel_tools//tools/cpp:malloc"
    programs = {name: default}
    if mallocs:
        programs = {name + "_" + k: m or default for k, m in mallocs.items()}
    for program, malloc in programs.items():
        cc_binary(
            name = program + ".bin",
            testonly = True,
            srcs = srcs,
            copts = test_copts(srcs) + ["-O2"] + copts,
            local_defines = PAGE_DEFINES,
            malloc = malloc,
            tags = ["manual"],
            deps = deps + [_BENCHMARK_MAIN],
            **kwargs
        )
        variant_binary(
            name = program,
            testonly = True,
            actual = ":" + program + ".bin",
            release = True,
            tags = ["manual"],
        )
        variant_test(
            name = program + "_smoke_test",
            size = "small",
            actual = ":" + program + ".bin",
            args = ["--benchmark_min_time=0.001"],
            release = True,
            tags = tags + ["benchmark"],
        )

def tcx_fuzz_test(
        name,
        srcs,
        deps = [],
        runs = 20000,
        max_len = 512,
        copts = [],
        tags = [],
        size = "medium",
        **kwargs):
    """A libFuzzer target (clang) that "bazel test" runs for a bounded number of inputs.

    Inputs to begin with, and those that once found a bug, are the files of
    corpus/NAME. --config=fuzz runs for ten minutes instead, from another seed;
    bazel run //pkg:NAME -- FILE runs one input again.

    Args:
      name: of the test.
      srcs: define LLVMFuzzerTestOneInput; C or C++.
      deps: of the fuzz target.
      runs: how many inputs to try.
      max_len: of an input, in bytes.
      copts: added.
      tags: of the test.
      size: of the test.
      **kwargs: passed to the test.
    """
    folder = "corpus/" + name
    corpus = native.glob([folder + "/*"])
    if not corpus:
        fail("%s has no inputs in %s" % (name, folder))
    cc_binary(
        name = name + ".bin",
        testonly = True,
        srcs = srcs,
        copts = test_copts(srcs) + copts,
        linkopts = [
            "-fsanitize=fuzzer",
            # The linker is called as clang, not as clang++.
            "-fsanitize-link-c++-runtime",
        ],
        local_defines = PAGE_DEFINES,
        tags = ["manual"],
        deps = deps + [_FUZZ_MAIN, _SANITIZER_OPTIONS],
    )
    variant_test(
        name = name,
        size = size,
        actual = ":" + name + ".bin",
        args = [
            "-runs=%d" % runs,
            "-seed=1",
            "-max_len=%d" % max_len,
            "-timeout=60",
            "-verbosity=0",
            "-print_final_stats=1",
            "%s/%s" % (native.package_name(), folder),
        ],
        data = corpus,
        sanitizer = "fuzz",
        tags = tags + ["fuzz"],
        **kwargs
    )

def tcx_release(name, actual, **kwargs):
    """ACTUAL as users get it, for data = of tests of the product.

    Args:
      name: of the target; its file is NAME, or NAME.so for a shared library.
      actual: a cc_binary, shared or not.
      **kwargs: tags, testonly, visibility.
    """
    variant_binary(name = name, actual = actual, release = True, **kwargs)

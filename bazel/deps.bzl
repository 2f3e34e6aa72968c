"""WORKSPACE dependencies of tcx (Bazel 4.2 on Debian 12, nothing downloaded).

Bazel 7 and newer ignore this file and read MODULE.bazel.
"""

load("@bazel_tools//tools/build_defs/repo:utils.bzl", "maybe")
load(
    "//bazel/debian:repositories.bzl",
    "abseil_source",
    "debian_overlay",
    "debian_source",
    "debian_tree",
)
load(
    "//bazel/debian:rules.bzl",
    "coverage_tools_repository",
    "native_rules_cc_repository",
    "native_rules_repository",
)

def tcx_deps():
    """Declares what tcx loads.  A repository declared before this call wins."""
    maybe(native_rules_cc_repository, name = "rules_cc")
    maybe(native_rules_repository, name = "rules_java", exports = {
        "java/defs.bzl": [
            "java_binary",
            "java_import",
            "java_library",
            "java_runtime",
            "java_toolchain",
        ],
    })
    maybe(native_rules_repository, name = "rules_shell", exports = {
        "shell/sh_binary.bzl": ["sh_binary"],
        "shell/sh_library.bzl": ["sh_library"],
        "shell/sh_test.bzl": ["sh_test"],
    })
    maybe(
        debian_tree,
        name = "bazel_skylib",
        package = "bazel-skylib",
        path = "/usr/share/bazel/tools/skylib",
    )

    # The copy inside Bazel 4.2 lacks cpu:wasm32, which abseil names.
    maybe(
        debian_tree,
        name = "platforms",
        package = "bazel-platforms",
        path = "/usr/share/bazel/tools/platforms",
    )
    maybe(abseil_source, name = "com_google_absl")
    maybe(
        debian_overlay,
        name = "com_google_googletest",
        build_file = Label("//bazel/debian:googletest.BUILD"),
        links = {
            "/usr/src/googletest/googlemock": "googlemock",
            "/usr/src/googletest/googletest": "googletest",
        },
        needs = {
            "/usr/src/googletest/googletest/src/gtest.cc": "googletest",
        },
    )
    maybe(
        debian_source,
        name = "com_github_google_benchmark",
        build_file = Label("//bazel/debian:benchmark.BUILD"),
        links = [
            "include",
            "src",
        ],
        package = "benchmark",
    )

    # Bazel 4.2 declares this one (as a download) ahead of the WORKSPACE file,
    # so maybe() would keep the download.
    coverage_tools_repository(name = "remote_coverage_tools")

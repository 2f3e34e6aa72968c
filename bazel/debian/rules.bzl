"""The load() paths of today's rules_* over the rules built into Bazel 4.2.

Newer Bazels want every rule loaded; with these repositories one BUILD file
serves both.
"""

def _write(ctx, path, text):
    ctx.file(path, text, executable = False)

def _finish(ctx):
    _write(ctx, "WORKSPACE", "workspace(name = \"%s\")\n" % ctx.name)

def _native_rules(names):
    text = ""
    for n in names:
        text += "def %s(**kwargs):\n    native.%s(**kwargs)\n\n" % (n, n)
    return text

def _native_rules_repository_impl(ctx):
    packages = {}
    for path, names in ctx.attr.exports.items():
        packages[path.rpartition("/")[0]] = True
        _write(ctx, path, _native_rules(names))
    for p in packages:
        _write(ctx, p + "/BUILD.bazel", "")
    _finish(ctx)

native_rules_repository = repository_rule(
    implementation = _native_rules_repository_impl,
    attrs = {
        "exports": attr.string_list_dict(
            doc = ".bzl file -> built-in rules that it exports",
        ),
    },
    doc = "One rules_* repository over built-in rules.",
)

_CC_RULES = ["cc_binary", "cc_import", "cc_library", "cc_test"]
_CC_TOOLCHAIN_RULES = ["cc_toolchain", "cc_toolchain_suite"]

# select() keys of newer abseil.  Bazel 4.2 calls an autodetected gcc
# "compiler".
_COMPILERS = {
    "clang": "clang",
    "clang-cl": "clang-cl",
    "emscripten": "emscripten",
    "gcc": "compiler",
    "mingw-gcc": "mingw-gcc",
    "msvc-cl": "msvc-cl",
}

_COMPILER_SETTING = """
config_setting(
    name = %r,
    flag_values = {"@bazel_tools//tools/cpp:compiler": %r},
)
"""

# A global may not be assigned from a built-in of the same name.
_NATIVE_BZL = """native_cc_common = cc_common
native_cc_info = CcInfo
native_cc_toolchain_config_info = CcToolchainConfigInfo
"""

_REEXPORT = """load("//cc/common:native.bzl", "{origin}")

{symbol} = {origin}
"""

_SYMBOLS = [
    ("cc/common/cc_common.bzl", "cc_common", "native_cc_common"),
    ("cc/common/cc_info.bzl", "CcInfo", "native_cc_info"),
    (
        "cc/toolchains/cc_toolchain_config_info.bzl",
        "CcToolchainConfigInfo",
        "native_cc_toolchain_config_info",
    ),
]

def _native_rules_cc_impl(ctx):
    for p in ["cc", "cc/common", "cc/toolchains"]:
        _write(ctx, p + "/BUILD.bazel", "")
    _write(
        ctx,
        "cc/compiler/BUILD.bazel",
        "package(default_visibility = [\"//visibility:public\"])\n" +
        "".join([_COMPILER_SETTING % item for item in _COMPILERS.items()]),
    )

    # What Bazel itself and older BUILD files load.
    _write(ctx, "cc/defs.bzl", _native_rules(
        _CC_RULES + _CC_TOOLCHAIN_RULES + ["cc_proto_library", "objc_library"],
    ))
    for r in _CC_RULES:
        _write(ctx, "cc/%s.bzl" % r, _native_rules([r]))
    for r in _CC_TOOLCHAIN_RULES:
        _write(ctx, "cc/toolchains/%s.bzl" % r, _native_rules([r]))
    _write(ctx, "cc/common/native.bzl", _NATIVE_BZL)
    for path, symbol, origin in _SYMBOLS:
        _write(ctx, path, _REEXPORT.format(symbol = symbol, origin = origin))
    ctx.symlink(
        Label("@bazel_tools//tools/cpp:cc_toolchain_config_lib.bzl"),
        "cc/cc_toolchain_config_lib.bzl",
    )
    ctx.symlink(
        Label("@bazel_tools//tools/build_defs/cc:action_names.bzl"),
        "cc/action_names.bzl",
    )
    _finish(ctx)

native_rules_cc_repository = repository_rule(
    implementation = _native_rules_cc_impl,
    doc = "rules_cc over the rules and providers built into Bazel 4.2.",
)

def _coverage_tools_impl(ctx):
    ctx.symlink(Label("//bazel/debian:lcov_merger.py"), "lcov_merger.py")
    _write(ctx, "BUILD.bazel", """package(default_visibility = ["//visibility:public"])

[
    sh_binary(name = n, srcs = ["lcov_merger.py"])
    for n in ["coverage_report_generator", "lcov_merger"]
]
""")
    _finish(ctx)

coverage_tools_repository = repository_rule(
    implementation = _coverage_tools_impl,
    doc = "In place of Java tools that Bazel 4.2 would download for any test.",
)

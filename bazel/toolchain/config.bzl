"""A small C and C++ toolchain over a compiler that Debian installs."""

load("@rules_cc//cc:action_names.bzl", "ACTION_NAMES")
load(
    "@rules_cc//cc:cc_toolchain_config_lib.bzl",
    "feature",
    "flag_group",
    "flag_set",
    "tool_path",
    "with_feature_set",
)
load("@rules_cc//cc/common:cc_common.bzl", "cc_common")
load("@rules_cc//cc/toolchains:cc_toolchain_config_info.bzl", "CcToolchainConfigInfo")

_C_COMPILE = [
    ACTION_NAMES.assemble,
    ACTION_NAMES.preprocess_assemble,
    ACTION_NAMES.c_compile,
]
_CXX_COMPILE = [
    ACTION_NAMES.linkstamp_compile,
    ACTION_NAMES.cpp_compile,
    ACTION_NAMES.cpp_header_parsing,
]
_LINK = [
    ACTION_NAMES.cpp_link_executable,
    ACTION_NAMES.cpp_link_dynamic_library,
    ACTION_NAMES.cpp_link_nodeps_dynamic_library,
]

_FLAGS = [
    (_C_COMPILE + _CXX_COMPILE, ["-Wall", "-fno-omit-frame-pointer"], None),
    (_C_COMPILE + _CXX_COMPILE, ["-g"], "dbg"),
    (_C_COMPILE + _CXX_COMPILE, ["-O2", "-DNDEBUG"], "opt"),
    (_CXX_COMPILE, ["-std=c++17"], None),
    (_LINK, ["-lstdc++", "-lm"], None),
]

# Keep the paths in .d files as Bazel wrote them; no time in the objects.
_UNFILTERED = [
    "-no-canonical-prefixes",
    "-Wno-builtin-macro-redefined",
    "-D__DATE__=\"redacted\"",
    "-D__TIMESTAMP__=\"redacted\"",
    "-D__TIME__=\"redacted\"",
]

# gcc writes the real paths of -isystem folders that are links.
_UNFILTERED_GCC = ["-fno-canonical-system-headers"]

def _flag_set(actions, flags, mode):
    return flag_set(
        actions = actions,
        flag_groups = [flag_group(flags = flags)],
        with_features = [with_feature_set(features = [mode])] if mode else [],
    )

def _impl(ctx):
    unfiltered = _UNFILTERED
    if ctx.attr.compiler == "gcc":
        unfiltered = unfiltered + _UNFILTERED_GCC
    features = [
        feature(name = "dbg"),
        feature(name = "opt"),
        feature(name = "fastbuild"),
        feature(name = "supports_pic", enabled = True),
        feature(name = "supports_dynamic_linker", enabled = True),
        feature(
            name = "default_flags",
            enabled = True,
            flag_sets = [_flag_set(a, f, m) for a, f, m in _FLAGS],
        ),
        feature(
            name = "unfiltered_compile_flags",
            enabled = True,
            flag_sets = [_flag_set(_C_COMPILE + _CXX_COMPILE, unfiltered, None)],
        ),
    ]
    prefix = ctx.attr.binutils_prefix
    tools = {t: prefix + t for t in ["ar", "ld", "nm", "objcopy", "objdump", "strip"]}
    tools.update(
        cpp = ctx.attr.cc,
        dwp = "/bin/false",
        gcc = ctx.attr.cc,
        gcov = "/bin/false",
    )
    return cc_common.create_cc_toolchain_config_info(
        ctx = ctx,
        abi_libc_version = "glibc",
        abi_version = "glibc",
        compiler = ctx.attr.compiler,
        cxx_builtin_include_directories = ctx.attr.include_directories,
        features = features,
        host_system_name = "local",
        target_cpu = ctx.attr.cpu,
        target_libc = "glibc",
        target_system_name = ctx.attr.target,
        tool_paths = [tool_path(name = k, path = v) for k, v in tools.items()],
        toolchain_identifier = ctx.attr.target + "-" + ctx.attr.compiler,
    )

cc_toolchain_config = rule(
    implementation = _impl,
    attrs = {
        "binutils_prefix": attr.string(default = "/usr/bin/"),
        "cc": attr.string(mandatory = True),
        "compiler": attr.string(mandatory = True),
        "cpu": attr.string(mandatory = True),
        "include_directories": attr.string_list(),
        "target": attr.string(mandatory = True),
    },
    provides = [CcToolchainConfigInfo],
)

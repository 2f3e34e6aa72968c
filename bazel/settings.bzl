"""Transitions: targets that carry build settings of their own."""

load("@rules_cc//cc:cc_library.bzl", "cc_library")
load("@rules_cc//cc/common:cc_info.bzl", "CcInfo")
load(":combinations.bzl", "BACKEND", "FRONTEND", "PAGE_SIZE", "settings_of")

_ASSERTIONS = str(Label("//bazel/config:assertions"))
_CLANG = str(Label("//bazel/toolchain:linux_x86_64_clang"))
_COPT = "//command_line_option:copt"
_LINKOPT = "//command_line_option:linkopt"
_MODE = "//command_line_option:compilation_mode"
_PLATFORMS = "//command_line_option:platforms"
_STRIP = "//command_line_option:strip"

# Bazel 4.2 cannot read _STRIP, so every variant keeps its symbols.
_SETTINGS = [
    _ASSERTIONS,
    BACKEND,
    _COPT,
    FRONTEND,
    _LINKOPT,
    _MODE,
    PAGE_SIZE,
    _PLATFORMS,
]

# Sanitizers make gcc warn where nothing is wrong.
_SANITIZE = ["-g", "-O1", "-fno-omit-frame-pointer", "-Wno-error"]
_SANITIZERS = {
    "asan": ["-fsanitize=address"],
    # -fsanitize=fuzzer itself is a linkopt of the fuzz target alone.
    "fuzz": ["-fsanitize=fuzzer-no-link,address,undefined"],
    "tsan": ["-fsanitize=thread"],
    "ubsan": ["-fsanitize=undefined", "-fno-sanitize-recover=all"],
}

def _variant_impl(settings, attr):
    out = {s: settings[s] for s in _SETTINGS}
    out[_STRIP] = "never"
    out.update(settings_of(attr.combination))
    if attr.release:
        # The product, whatever else this build is.
        out[_MODE] = "opt"
        out[_ASSERTIONS] = False
        out[_COPT] = []
        out[_LINKOPT] = []
    if attr.sanitizer:
        flags = _SANITIZERS[attr.sanitizer]
        out[_COPT] = settings[_COPT] + _SANITIZE + flags
        out[_LINKOPT] = settings[_LINKOPT] + flags
    if attr.sanitizer == "fuzz":
        out[_PLATFORMS] = [_CLANG]
    return out

_variant = transition(
    implementation = _variant_impl,
    inputs = _SETTINGS,
    outputs = _SETTINGS + [_STRIP],
)

_SETTING_ATTRS = {
    "combination": attr.string(doc = "as of combinations.bzl"),
    "release": attr.bool(doc = "optimized, without assertions"),
    "sanitizer": attr.string(values = [""] + _SANITIZERS.keys()),
    "_allowlist_function_transition": attr.label(
        default = "@bazel_tools//tools/allowlists/function_transition_allowlist",
    ),
}

# --- executables and shared libraries -----------------------------------------

def _variant_executable_impl(ctx):
    dep = ctx.attr.actual[DefaultInfo]
    source = dep.files_to_run.executable
    if not source:
        source = dep.files.to_list()[0]
    name = ctx.label.name
    if source.extension == "so" and not name.endswith(".so"):
        name += ".so"
    exe = ctx.actions.declare_file(name)
    ctx.actions.symlink(
        output = exe,
        target_file = source,
        is_executable = True,
    )
    runfiles = ctx.runfiles(files = [exe] + ctx.files.data)
    return [
        DefaultInfo(
            executable = exe,
            runfiles = runfiles.merge(dep.default_runfiles),
        ),
        coverage_common.instrumented_files_info(
            ctx,
            dependency_attributes = ["actual", "data"],
        ),
    ]

_EXECUTABLE_ATTRS = dict(
    actual = attr.label(mandatory = True, cfg = "target"),
    data = attr.label_list(allow_files = True),
    **_SETTING_ATTRS
)

variant_binary = rule(
    implementation = _variant_executable_impl,
    executable = True,
    cfg = _variant,
    attrs = _EXECUTABLE_ATTRS,
    doc = "ACTUAL (a program or a shared library) under other settings.",
)

variant_test = rule(
    implementation = _variant_executable_impl,
    test = True,
    cfg = _variant,
    attrs = _EXECUTABLE_ATTRS,
    doc = "A test under other settings.",
)

def _variant_file_impl(ctx):
    # A transition of an attribute makes a list of it.
    file = ctx.attr.actual[0][DefaultInfo].files.to_list()[0]
    out = ctx.actions.declare_file(ctx.label.name)
    ctx.actions.symlink(output = out, target_file = file)
    return [DefaultInfo(files = depset([out]), executable = out)]

variant_file = rule(
    implementation = _variant_file_impl,
    executable = True,
    attrs = dict(
        actual = attr.label(mandatory = True, cfg = _variant),
        **_SETTING_ATTRS
    ),
    doc = "ACTUAL (a library's file) under other settings, in bazel-bin itself.",
)

# --- libraries ------------------------------------------------------------------

def _variant_library_impl(ctx):
    dep = ctx.attr.actual
    return [
        dep[CcInfo],
        dep[DefaultInfo],
        dep[InstrumentedFilesInfo],
        dep[OutputGroupInfo],
    ]

_LIBRARY_ATTRS = dict(
    actual = attr.label(mandatory = True, providers = [CcInfo]),
    **_SETTING_ATTRS
)

_variant_library = rule(
    implementation = _variant_library_impl,
    cfg = _variant,
    attrs = _LIBRARY_ATTRS,
    provides = [CcInfo],
)

def variant_cc_library(
        name,
        actual,
        combination = "",
        **kwargs):
    """ACTUAL under other settings, fit for malloc = and deps =.

    Args:
      name: of the resulting cc_library.
      actual: a cc_library.
      combination: of front end, back end, page size; what it does not name
        stays as it is.
      **kwargs: passed to cc_library.
    """
    _variant_library(
        name = name + ".variant",
        actual = actual,
        combination = combination,
        tags = ["manual"],
        visibility = ["//visibility:private"],
    )

    # malloc = accepts nothing but the rule cc_library.
    cc_library(name = name, deps = [name + ".variant"], **kwargs)

# --- code of others, compiled once for all variants --------------------------------

def _fixed(mode, assertions, frontend, backend, page_size, flags):
    return {
        _ASSERTIONS: assertions,
        BACKEND: backend,
        _COPT: flags,
        FRONTEND: frontend,
        _LINKOPT: flags,
        _MODE: mode,
        PAGE_SIZE: page_size,
        _STRIP: "never" if flags else "always",
    }

_FIXED = [s for s in _SETTINGS if s != _PLATFORMS] + [_STRIP]

def _away_impl(_settings, _attr):
    return _fixed("dbg", True, "perthread", "pageheap", "256k", ["-DTCX_NOWHERE"])

def _home_impl(_settings, _attr):
    return _fixed("fastbuild", False, "percpu", "hpaa", "8k", [])

# Bazel 4.2 names an output directory after all settings that transitions ever
# changed on the way.  Two steps that change each of them make it one directory.
_away = transition(implementation = _away_impl, inputs = [], outputs = _FIXED)
_home = transition(implementation = _home_impl, inputs = [], outputs = _FIXED)

_home_library = rule(
    implementation = _variant_library_impl,
    cfg = _home,
    attrs = _LIBRARY_ATTRS,
    provides = [CcInfo],
)

_away_library = rule(
    implementation = _variant_library_impl,
    cfg = _away,
    attrs = _LIBRARY_ATTRS,
    provides = [CcInfo],
)

def once_cc_library(name, actual, **kwargs):
    """ACTUAL compiled once, the same for every variant of what depends on it.

    Args:
      name: of the resulting target.
      actual: a cc_library that no build setting of tcx changes.
      **kwargs: passed on.
    """
    _home_library(
        name = name + ".home",
        actual = actual,
        tags = ["manual"],
        visibility = ["//visibility:private"],
    )
    _away_library(name = name, actual = ":" + name + ".home", **kwargs)

"""Programs for arm64 by the cross compiler, and tests of them under qemu."""

_ABSEIL = str(Label("//bazel/config:abseil"))
_ASSERTIONS = str(Label("//bazel/config:assertions"))
_MODE = "//command_line_option:compilation_mode"
_PLATFORM = str(Label("//bazel/toolchain:linux_aarch64"))
_PLATFORMS = "//command_line_option:platforms"

_SETTINGS = [
    _ASSERTIONS,
    _MODE,
]

def _aarch64_impl(settings, attr):
    out = {s: settings[s] for s in _SETTINGS}
    out[_PLATFORMS] = [_PLATFORM]

    # The plain C beside abseil has parts for arm64 of its own.
    out[_ABSEIL] = False
    if attr.release:
        out[_ASSERTIONS] = False
        out[_MODE] = "opt"
    return out

_aarch64 = transition(
    implementation = _aarch64_impl,
    inputs = _SETTINGS,
    outputs = _SETTINGS + [
        _ABSEIL,
        _PLATFORMS,
    ],
)

_ATTRS = {
    "actual": attr.label(cfg = _aarch64, mandatory = True),
    "release": attr.bool(doc = "optimized, without assertions"),
    "_allowlist_function_transition": attr.label(
        default = "@bazel_tools//tools/allowlists/function_transition_allowlist",
    ),
}

def _file(target):
    executable = target[DefaultInfo].files_to_run.executable
    return executable or target[DefaultInfo].files.to_list()[0]

def _aarch64_binary_impl(ctx):
    source = _file(ctx.attr.actual[0])
    out = ctx.actions.declare_file(ctx.label.name)
    ctx.actions.symlink(output = out, target_file = source)
    return DefaultInfo(
        files = depset([out]),
        runfiles = ctx.runfiles([out]),
    )

aarch64_binary = rule(
    implementation = _aarch64_binary_impl,
    attrs = _ATTRS,
    doc = "ACTUAL (a program, a test, a shared library) for arm64.",
)

# 8 GiB of address space: qemu keeps a table of all pages of a reservation, and
# tcx would else reserve 128 GiB.
_SCRIPT = """#!/bin/sh
exec qemu-aarch64 -R 0x200000000 -L /usr/aarch64-linux-gnu {program} "$@"
"""

def _aarch64_test_impl(ctx):
    target = ctx.attr.actual[0]
    program = _file(target)
    script = ctx.actions.declare_file(ctx.label.name)
    ctx.actions.write(
        output = script,
        content = _SCRIPT.format(program = program.short_path),
        is_executable = True,
    )
    return DefaultInfo(
        executable = script,
        runfiles = ctx.runfiles([program]).merge(
            target[DefaultInfo].default_runfiles,
        ),
    )

aarch64_test = rule(
    implementation = _aarch64_test_impl,
    attrs = _ATTRS,
    doc = "The test ACTUAL for arm64, under qemu.",
    test = True,
)

"""A static library for programs that Bazel does not build."""

load("@bazel_tools//tools/cpp:toolchain_utils.bzl", "find_cpp_toolchain")
load("@rules_cc//cc/common:cc_info.bzl", "CcInfo")

# One object: whatever a program takes of malloc, it takes all of it, and only
# the names of the version script are global.  Without groups, or the linker of
# the program would drop a C++ template that it has too.
_MERGE = """set -eu
ld=$1 objcopy=$2 ar=$3 names=$4 out=$5
shift 5
"$ld" -r --force-group-allocation -o "$out.o" "$@"
"$objcopy" --keep-global-symbols="$names" "$out.o"
rm -f "$out"
"$ar" rcsD "$out" "$out.o"
rm "$out.o"
"""

def _archive_impl(ctx):
    toolchain = find_cpp_toolchain(ctx)
    args = ctx.actions.args()
    args.add(toolchain.ld_executable)
    args.add(toolchain.objcopy_executable)
    args.add(toolchain.ar_executable)
    args.add(ctx.file.exported_symbols)
    args.add(ctx.outputs.out)
    whole, rest = [], []
    for dep in ctx.attr.deps:
        for entry in dep[CcInfo].linking_context.linker_inputs.to_list():
            for lib in entry.libraries:
                file = lib.pic_static_library or lib.static_library
                if file:
                    (whole if lib.alwayslink else rest).append(file)
    args.add("--whole-archive")
    args.add_all(whole, uniquify = True)
    args.add("--no-whole-archive")
    args.add("--start-group")
    args.add_all(rest, uniquify = True)
    args.add("--end-group")
    ctx.actions.run_shell(
        outputs = [ctx.outputs.out],
        inputs = depset(
            whole + rest + [ctx.file.exported_symbols],
            transitive = [toolchain.all_files],
        ),
        arguments = [args],
        command = _MERGE,
        mnemonic = "TcxArchive",
        progress_message = "Merging %{output}",
    )
    return [DefaultInfo(files = depset([ctx.outputs.out]))]

tcx_static_archive = rule(
    implementation = _archive_impl,
    attrs = {
        "deps": attr.label_list(mandatory = True, providers = [CcInfo]),
        "out": attr.output(mandatory = True),
        "exported_symbols": attr.label(
            mandatory = True,
            allow_single_file = True,
            doc = "names that stay global, one a line",
        ),
        "_cc_toolchain": attr.label(
            default = "@bazel_tools//tools/cpp:current_cc_toolchain",
        ),
    },
    toolchains = ["@bazel_tools//tools/cpp:toolchain_type"],
    doc = "DEPS and all that they need of us in one .a, for gcc alone.",
)

"""Repositories over what Debian 12 installs or setup.sh fetched.

Nothing is downloaded here.
"""

def _need(ctx, path, package):
    if not ctx.path(path).exists:
        fail("@%s: %s is missing; run ./setup.sh or: apt-get install %s" %
             (ctx.name, path, package))

def _finish(ctx):
    ctx.file(
        "WORKSPACE",
        "workspace(name = \"%s\")\n" % ctx.name,
        executable = False,
    )

def _debian_tree_impl(ctx):
    _need(ctx, ctx.attr.path, ctx.attr.package)
    for entry in ctx.path(ctx.attr.path).readdir():
        ctx.symlink(entry, entry.basename)

debian_tree = repository_rule(
    implementation = _debian_tree_impl,
    attrs = {
        "package": attr.string(mandatory = True),
        "path": attr.string(mandatory = True),
    },
    local = True,
    doc = "A Bazel repository that a Debian package installs as it is.",
)

def _debian_overlay_impl(ctx):
    for path, package in ctx.attr.needs.items():
        _need(ctx, path, package)
    for path, name in ctx.attr.links.items():
        ctx.symlink(path, name)
    ctx.symlink(ctx.attr.build_file, "BUILD.bazel")
    _finish(ctx)

debian_overlay = repository_rule(
    implementation = _debian_overlay_impl,
    attrs = {
        "build_file": attr.label(mandatory = True, allow_single_file = True),
        "links": attr.string_dict(doc = "path -> name in the repository"),
        "needs": attr.string_dict(doc = "path -> Debian package with it"),
    },
    local = True,
    doc = "Installed sources with a BUILD file of ours.",
)

def _fetched(ctx, package, probe):
    """Returns the path of a source package that setup.sh unpacked."""
    top = ctx.path(Label("//:BUILD.bazel")).dirname
    root = top.get_child(".cache").get_child(package)
    if not root.get_child(probe).exists:
        fail("@%s: no source of %s; run ./setup.sh in %s" %
             (ctx.name, package, top))
    return root

def _debian_source_impl(ctx):
    root = _fetched(ctx, ctx.attr.package, ctx.attr.links[0])
    for name in ctx.attr.links:
        ctx.symlink(root.get_child(name), name)
    ctx.symlink(ctx.attr.build_file, "BUILD.bazel")
    _finish(ctx)

debian_source = repository_rule(
    implementation = _debian_source_impl,
    attrs = {
        "build_file": attr.label(mandatory = True, allow_single_file = True),
        "links": attr.string_list(mandatory = True),
        "package": attr.string(mandatory = True),
    },
    local = True,
    doc = "A Debian source package that setup.sh fetched, with our BUILD file.",
)

# abseil as the allocator needs it: without exceptions nothing of libstdc++ is
# left undefined but what //base:nostdlibxx defines, and no symbol is "unique",
# because objcopy cannot make such a one local (clang makes none).
_COPTS = "ABSL_DEFAULT_COPTS = "
_OUR_COPTS = """{copts}[
    "-O2",
    "-DNDEBUG",
    "-fno-exceptions",
    "-fno-rtti",
    "-ftls-model=initial-exec",
    "-w",
] + select({{
    "{clang}": [],
    "//conditions:default": ["-fno-gnu-unique"],
}}) + """

def _our_copts():
    repository = Label("//bazel/toolchain:BUILD.bazel").workspace_name or "tcx"
    return _OUR_COPTS.format(
        clang = "@%s//bazel/toolchain:on_clang" % repository,
        copts = _COPTS,
    )

def _abseil_source_impl(ctx):
    named = ctx.os.environ.get("TCX_ABSL_SRC", "")
    root = ctx.path(named) if named else _fetched(ctx, "abseil", "absl")
    if not root.get_child("absl").exists:
        fail("@%s: no absl/ under TCX_ABSL_SRC=%s; run ./setup.sh" %
             (ctx.name, named))
    for entry in root.get_child("absl").readdir():
        if entry.basename != "copts":
            ctx.symlink(entry, "absl/" + entry.basename)
    for entry in root.get_child("absl").get_child("copts").readdir():
        if entry.basename != "configure_copts.bzl":
            ctx.symlink(entry, "absl/copts/" + entry.basename)
            continue
        text = ctx.read(entry).replace("\n" + _COPTS, "\n" + _our_copts())
        ctx.file("absl/copts/configure_copts.bzl", text, executable = False)
    _finish(ctx)

abseil_source = repository_rule(
    implementation = _abseil_source_impl,
    environ = ["TCX_ABSL_SRC"],
    local = True,
    doc = "abseil from the source package of setup.sh, or from $TCX_ABSL_SRC.",
)

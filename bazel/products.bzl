"""What users link or preload."""

load("@rules_cc//cc:cc_binary.bzl", "cc_binary")
load("@rules_cc//cc:cc_library.bzl", "cc_library")
load(":archive.bzl", "tcx_static_archive")
load(
    ":settings.bzl",
    "variant_binary",
    "variant_cc_library",
    "variant_file",
)

# Of every combination: it is one library to its users. The number is
# TCX_VERSION_MAJOR.
SONAME = "libtcx.so.0"

def tcx_products(
        name,
        library,
        shared_library,
        version_script,
        exported_symbols,
        no_libstdcxx,
        preload_only = [],
        archive_only = [],
        frontends = [],
        backends = [],
        page_sizes = []):
    """NAME for malloc =, libNAME.so, libNAME.a: what the settings select.

    libNAME_release is the .so, optimized and without assertions however the
    tests are built. NAME_<front end>, NAME_<back end> and their files have that
    one; NAME_<front end>_<page size> is for malloc =.

    Args:
      name: of the cc_library.
      library: the allocator with malloc and free, alwayslink, for programs.
      shared_library: the same for the .so and the .a, which do without
        libstdc++.
      version_script: versions of the names that leave the library.
      exported_symbols: a file of those names, for the archive.
      no_libstdcxx: defines what would need libstdc++, for the .so and the .a.
      preload_only: beside them in the .so.
      archive_only: beside them in the .a.
      frontends: of "percpu", "perthread".
      backends: of "hpaa", "pageheap".
      page_sizes: of "4k", "32k", "256k".
    """
    cc_library(
        name = name,
        linkstatic = True,
        deps = [library],
        alwayslink = True,
    )
    shared = "lib%s.so" % name
    cc_binary(
        name = shared,
        additional_linker_inputs = [version_script],
        # Only what the allocator uses of abseil.
        features = ["-legacy_whole_archive"],
        linkopts = [
            "-Wl,--version-script=$(location %s)" % version_script,
            "-Wl,-soname," + SONAME,
            "-Wl,-z,defs",
            "-Wl,-z,nodelete",
            "-Wl,-z,now",
            "-Wl,-z,relro",
            "-Wl,--as-needed",
        ],
        linkshared = True,
        deps = [
            shared_library,
            no_libstdcxx,
        ] + preload_only,
    )
    tcx_static_archive(
        name = name + "_archive",
        out = "lib%s.a" % name,
        exported_symbols = exported_symbols,
        deps = [
            shared_library,
            no_libstdcxx,
        ] + archive_only,
    )
    variant_binary(
        name = "lib%s_release" % name,
        actual = ":" + shared,
        release = True,
    )
    for frontend in frontends:
        _named_products(name, frontend, page_sizes)
    for backend in backends:
        _named_products(name, backend, [])

def _named_products(name, combination, page_sizes):
    full_name = "%s_%s" % (name, combination)
    for suffix in [""] + ["_" + p for p in page_sizes]:
        variant_cc_library(
            name = full_name + suffix,
            actual = ":" + name,
            combination = combination + suffix,
            linkstatic = True,
            alwayslink = True,
        )
    variant_file(
        name = "lib%s.so" % full_name,
        actual = ":lib%s.so" % name,
        combination = combination,
    )
    variant_file(
        name = "lib%s.a" % full_name,
        actual = ":%s_archive" % name,
        combination = combination,
    )
    variant_binary(
        name = "lib%s_release" % full_name,
        actual = ":lib%s.so" % name,
        combination = combination,
        release = True,
    )

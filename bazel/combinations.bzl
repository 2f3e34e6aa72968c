"""Combinations of build settings by name: "perthread", "percpu_pageheap_4k"."""

load(":page_sizes.bzl", "PAGE_SHIFTS")

BACKEND = str(Label("//bazel/config:backend"))
FRONTEND = str(Label("//bazel/config:frontend"))
PAGE_SIZE = str(Label("//bazel/config:page_size"))

BACKENDS = [
    "hpaa",
    "pageheap",
]

FRONTENDS = [
    "percpu",
    "perthread",
]

# All of them, in full.
COMBINATIONS = [
    "%s_%s_%s" % (frontend, backend, page_size)
    for frontend in FRONTENDS
    for backend in BACKENDS
    for page_size in PAGE_SHIFTS
]

def _setting_of(value):
    if value in BACKENDS:
        return BACKEND
    if value in FRONTENDS:
        return FRONTEND
    if value in PAGE_SHIFTS:
        return PAGE_SIZE
    fail("%s is no front end, back end or page size" % value)

def settings_of(combination):
    """The build settings that a combination names.

    Args:
      combination: values with "_" between them, in any number.

    Returns:
      setting -> value.
    """
    values = combination.split("_") if combination else []
    return {_setting_of(value): value for value in values}

"""The page sizes that tcx can be built for."""

# Value of //bazel/config:page_size -> value of TCX_PAGE_SHIFT.
PAGE_SHIFTS = {
    "256k": 18,
    "32k": 15,
    "4k": 12,
    "8k": 13,
}

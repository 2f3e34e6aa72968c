// config.h -- build configuration: the page size and what follows from it.
//
// TCX_PAGE_SHIFT comes from the build
// (--config=page4k|page8k|page32k|page256k). A tcx page is the unit of spans
// and of the pagemap; the page size of the operating system is another thing,
// read at run time (base/os.h).
#ifndef TCX_BASE_CONFIG_H_
#define TCX_BASE_CONFIG_H_

#include <stddef.h>

#include "base/compiler.h"

#ifndef TCX_PAGE_SHIFT
#define TCX_PAGE_SHIFT 13
#endif

static_assert(TCX_PAGE_SHIFT == 12 || TCX_PAGE_SHIFT == 13 ||
                  TCX_PAGE_SHIFT == 15 || TCX_PAGE_SHIFT == 18,
              "size classes are generated for 4, 8, 32 and 256 KiB pages");

#define TCX_PAGE_SIZE ((size_t)1 << TCX_PAGE_SHIFT)

#define TCX_KIB ((size_t)1 << 10)
#define TCX_MIB ((size_t)1 << 20)
#define TCX_GIB ((size_t)1 << 30)

// A huge page of x86-64, and of arm64 with 4 KiB pages.
#define TCX_HUGE_PAGE_SHIFT 21
#define TCX_HUGE_PAGE_SIZE ((size_t)1 << TCX_HUGE_PAGE_SHIFT)

// Every pointer that malloc returns is a multiple of this (x86-64 ABI).
#define TCX_ALIGNMENT ((size_t)16)

// Own mappings stay below this address, so that (address >> 48) rejects a wild
// pointer and 48 bits hold a page number or an address.
#define TCX_ADDRESS_BITS 47

static_assert(TCX_PAGE_SHIFT < TCX_HUGE_PAGE_SHIFT, "a huge page has pages");

#endif  // TCX_BASE_CONFIG_H_

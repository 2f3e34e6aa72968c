// headers_test.c -- every header of base is C11, in any order.
//
// Method: includes all, the last ones first; compiling is the test. That they
// are C++17 too is shown by the other tests.
#include "base/syscall.h"
//
#include "base/os_files.h"
//
#include "base/os.h"
//
#include "base/log.h"
//
#include "base/lock.h"
//
#include "base/fork.h"
//
#include "base/fmt.h"
//
#include "base/config.h"
//
#include "base/compiler.h"
//
#include "base/clock.h"
//
#include "base/check.h"
//
#include "base/bits.h"
//
#include "base/bell.h"
//
#include "base/atomic.h"
//
#include "base/absl_shim.h"

static_assert(sizeof(struct tcx_lock) == 16, "as lock.h promises");

int main(void) {
  struct tcx_lock lock = TCX_LOCK_INIT(TCX_LOCK_RANK_ARENA);
  return (int)tcx_atomic_load_relaxed(&lock.word);
}

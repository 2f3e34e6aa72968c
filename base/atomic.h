// atomic.h -- atomic access to plain integers, memory order in the name.
//
// Over the __atomic builtins, as macros that keep the type of the operand, so
// that one header serves C11 and C++17 (which have no common _Atomic). The
// order is that of C11, section 7.17.3.
#ifndef TCX_BASE_ATOMIC_H_
#define TCX_BASE_ATOMIC_H_

#define tcx_atomic_load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define tcx_atomic_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)

#define tcx_atomic_store_relaxed(p, v) \
  __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define tcx_atomic_store_release(p, v) \
  __atomic_store_n((p), (v), __ATOMIC_RELEASE)

#define tcx_atomic_exchange_acquire(p, v) \
  __atomic_exchange_n((p), (v), __ATOMIC_ACQUIRE)
#define tcx_atomic_exchange_release(p, v) \
  __atomic_exchange_n((p), (v), __ATOMIC_RELEASE)
#define tcx_atomic_exchange_relaxed(p, v) \
  __atomic_exchange_n((p), (v), __ATOMIC_RELAXED)

#define tcx_atomic_fetch_add_relaxed(p, v) \
  __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
#define tcx_atomic_fetch_sub_relaxed(p, v) \
  __atomic_fetch_sub((p), (v), __ATOMIC_RELAXED)

// True if *p was *expected and is now v; else *expected is what was found.
#define tcx_atomic_cas_acquire(p, expected, v)                           \
  __atomic_compare_exchange_n((p), (expected), (v), 0, __ATOMIC_ACQUIRE, \
                              __ATOMIC_RELAXED)
#define tcx_atomic_cas_release(p, expected, v)                           \
  __atomic_compare_exchange_n((p), (expected), (v), 0, __ATOMIC_RELEASE, \
                              __ATOMIC_RELAXED)
#define tcx_atomic_cas_relaxed(p, expected, v)                           \
  __atomic_compare_exchange_n((p), (expected), (v), 0, __ATOMIC_RELAXED, \
                              __ATOMIC_RELAXED)

// A counter with one writer at a time (the owner, or whoever holds the lock)
// and readers that take no lock: cheaper than a read-modify-write.
#define tcx_counter_add(p, v) \
  tcx_atomic_store_relaxed((p), tcx_atomic_load_relaxed(p) + (v))

// Full barrier: a store before it is seen by whoever a load behind it missed.
#define tcx_atomic_fence() __atomic_thread_fence(__ATOMIC_SEQ_CST)

// The compiler moves no access across. For what a signal handler of the same
// thread sees, or the child of another thread's fork: both find the stores of a
// thread up to some point of its program, and none behind (docs/adr/0005).
#define tcx_compiler_fence() __atomic_signal_fence(__ATOMIC_SEQ_CST)

#endif  // TCX_BASE_ATOMIC_H_

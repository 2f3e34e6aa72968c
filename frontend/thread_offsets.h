// thread_offsets.h -- of struct tcx_thread, as assembly needs them; thread.h
// asserts that they are right.
#ifndef TCX_FRONTEND_THREAD_OFFSETS_H_
#define TCX_FRONTEND_THREAD_OFFSETS_H_

#define TCX_THREAD_AREA_OFFSET 16
#define TCX_THREAD_FLAGS_OFFSET 24
#define TCX_THREAD_VFORK_BIT 8

#endif  // TCX_FRONTEND_THREAD_OFFSETS_H_

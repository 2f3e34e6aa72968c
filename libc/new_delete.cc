// new_delete.cc -- every operator new and delete of C++17.
//
// WHAT IT DECIDES
// - operator new and delete are malloc and free: one object may cross over.
//   A failing new calls the new_handler until it succeeds or there is none,
//   then throws std::bad_alloc; the nothrow forms return nullptr instead.
// - A program may replace some of the operators and count on the default of the
//   others to call those (17.6.3: new[] calls new, the sized and the nothrow
//   forms call the plain ones). So each form that is defined by another asks,
//   by one compare, whether that other is still ours. The operators are weak
//   so that a program can replace them where tcx is linked in statically.
// - No C++ library is needed where TCX_WEAK_LIBSTDCXX is defined (the shared
//   library, the archive for C programs): its two functions are then called if
//   the process has them. Else the program's libstdc++ is told to have them.
//
// LIMIT: compiled without exceptions, a nothrow form cannot catch. Where a
//   new_handler throws through one, or a replaced operator new does, the
//   program ends in std::terminate: the function is noexcept. The standard asks
//   for nullptr.
#include <errno.h>
#include <stddef.h>

#include <new>

#include "base/bits.h"
#include "base/compiler.h"
#include "base/config.h"
#include "base/log.h"
#include "libc/fast_path.h"
#include "libc/heap.h"
#include "libc/replaced.h"

#ifdef TCX_WEAK_LIBSTDCXX
#define TCX_LIBSTDCXX __attribute__((weak))
#else
#define TCX_LIBSTDCXX
#endif

#define OPERATOR TCX_EXPORT __attribute__((weak))

// libc++ gives them the same names.
namespace std {
TCX_LIBSTDCXX new_handler get_new_handler() noexcept;
TCX_LIBSTDCXX TCX_NORETURN void __throw_bad_alloc();
}  // namespace std

namespace {

using std::align_val_t;
using std::nothrow_t;

TCX_NORETURN void fail() {
#ifdef TCX_WEAK_LIBSTDCXX
  if (std::__throw_bad_alloc == nullptr) {
    tcx_fatal("operator new: out of memory, and no C++ library to throw");
  }
#endif
  std::__throw_bad_alloc();
}

std::new_handler current_handler() {
#ifdef TCX_WEAK_LIBSTDCXX
  if (std::get_new_handler == nullptr)
    return nullptr;
#endif
  return std::get_new_handler();
}

void *allocate_once(size_t align, size_t size) {
  if (align <= TCX_ALIGNMENT)
    return tcx_heap_malloc(size);
  if (size > TCX_REQUEST_MAX - align)
    return nullptr;
  return tcx_heap_allocate_aligned(align, size);
}

// Returns nullptr when there is no memory and no handler to find some. The
// handler may throw: nothing is held here.
void *allocate(size_t align, size_t size) {
  for (;;) {
    void *object = allocate_once(align, size);
    if (object != nullptr)
      return object;
    std::new_handler handler = current_handler();
    if (handler == nullptr)
      return nullptr;
    handler();
  }
}

TCX_COLD void *new_slow(size_t size) {
  void *object = allocate(0, size);
  if (object == nullptr)
    fail();
  return object;
}

TCX_COLD void *new_slow_nothrow(size_t size) {
  return allocate(0, size);
}

bool is_alignment(align_val_t align) {
  size_t value = static_cast<size_t>(align);
  return tcx_is_power_of_two(value) && value <= TCX_REQUEST_MAX;
}

void *new_aligned(size_t size, align_val_t align) {
  void *object = is_alignment(align)
                     ? allocate(static_cast<size_t>(align), size)
                     : nullptr;
  if (TCX_UNLIKELY(object == nullptr))
    fail();
  return object;
}

void *new_aligned_nothrow(size_t size, align_val_t align) {
  if (TCX_UNLIKELY(!is_alignment(align)))
    return nullptr;
  return allocate(static_cast<size_t>(align), size);
}

TCX_ALWAYS_INLINE void *new_fast(size_t size) {
  void *object = tcx_malloc_fast(size);
  if (TCX_LIKELY(object != nullptr))
    return object;
  return new_slow(size);
}

TCX_ALWAYS_INLINE void *new_fast_nothrow(size_t size) {
  void *object = tcx_malloc_fast(size);
  if (TCX_LIKELY(object != nullptr))
    return object;
  return new_slow_nothrow(size);
}

// In messages of wrong use.
constexpr char kDelete[] = "operator delete";
constexpr char kDeleteArray[] = "operator delete[]";

TCX_ALWAYS_INLINE void delete_fast(void *pointer, const char *caller) {
  if (TCX_UNLIKELY(!tcx_free_fast(pointer)))
    tcx_heap_free_as(pointer, caller);
}

// A program's own operator new may allocate another size than it was asked for,
// and leave delete to us. Then the size that delete gets says nothing.
bool size_is_known() {
  return !TCX_REPLACED(new_plain) && !TCX_REPLACED(new_array) &&
         !TCX_REPLACED(new_aligned) && !TCX_REPLACED(new_array_aligned);
}

TCX_COLD void delete_slow_sized(void *pointer, size_t size,
                                const char *caller) {
  if (size_is_known()) {
    tcx_heap_free_sized(pointer, size, caller);
  } else {
    tcx_heap_free_as(pointer, caller);
  }
}

TCX_ALWAYS_INLINE void delete_fast_sized(void *pointer, size_t size,
                                         const char *caller) {
  if (TCX_UNLIKELY(!tcx_free_sized_fast(pointer, size))) {
    delete_slow_sized(pointer, size, caller);
  }
}

void delete_aligned_sized(void *pointer, size_t size, align_val_t align,
                          const char *caller) {
  if (size_is_known()) {
    tcx_heap_free_aligned_sized(pointer, static_cast<size_t>(align), size,
                                caller);
  } else {
    delete_fast(pointer, caller);
  }
}

// -- what a form asks for that is defined by another form ---------------------

TCX_ALWAYS_INLINE void *call_new(size_t size) {
  if (TCX_REPLACED(new_plain))
    return tcx_operators.new_plain(size);
  return new_fast(size);
}

TCX_ALWAYS_INLINE void *call_new_aligned(size_t size, align_val_t align) {
  if (TCX_REPLACED(new_aligned)) {
    return tcx_operators.new_aligned(size, static_cast<size_t>(align));
  }
  return new_aligned(size, align);
}

TCX_ALWAYS_INLINE void call_delete(void *pointer, const char *caller) {
  if (TCX_REPLACED(delete_plain))
    return tcx_operators.delete_plain(pointer);
  delete_fast(pointer, caller);
}

TCX_ALWAYS_INLINE void call_delete_array(void *pointer) {
  if (TCX_REPLACED(delete_array))
    return tcx_operators.delete_array(pointer);
  call_delete(pointer, kDeleteArray);
}

TCX_ALWAYS_INLINE void call_delete_aligned(void *pointer, align_val_t align,
                                           const char *caller) {
  if (TCX_REPLACED(delete_aligned)) {
    return tcx_operators.delete_aligned(pointer, static_cast<size_t>(align));
  }
  delete_fast(pointer, caller);
}

TCX_ALWAYS_INLINE void call_delete_array_aligned(void *pointer,
                                                 align_val_t align) {
  if (TCX_REPLACED(delete_array_aligned)) {
    return tcx_operators.delete_array_aligned(pointer,
                                              static_cast<size_t>(align));
  }
  call_delete_aligned(pointer, align, kDeleteArray);
}

}  // namespace

// -- new ----------------------------------------------------------------------

OPERATOR void *operator new(size_t size) {
  return new_fast(size);
}

OPERATOR void *operator new[](size_t size) {
  return call_new(size);
}

OPERATOR void *operator new(size_t size, const nothrow_t &) noexcept {
  if (TCX_REPLACED(new_plain))
    return tcx_operators.new_plain(size);
  return new_fast_nothrow(size);
}

OPERATOR void *operator new[](size_t size, const nothrow_t &) noexcept {
  if (TCX_REPLACED(new_array))
    return tcx_operators.new_array(size);
  if (TCX_REPLACED(new_plain))
    return tcx_operators.new_plain(size);
  return new_fast_nothrow(size);
}

OPERATOR void *operator new(size_t size, align_val_t align) {
  return new_aligned(size, align);
}

OPERATOR void *operator new[](size_t size, align_val_t align) {
  return call_new_aligned(size, align);
}

OPERATOR void *operator new(size_t size, align_val_t align,
                            const nothrow_t &) noexcept {
  if (TCX_REPLACED(new_aligned))
    return call_new_aligned(size, align);
  return new_aligned_nothrow(size, align);
}

OPERATOR void *operator new[](size_t size, align_val_t align,
                              const nothrow_t &) noexcept {
  if (TCX_REPLACED(new_array_aligned)) {
    return tcx_operators.new_array_aligned(size, static_cast<size_t>(align));
  }
  if (TCX_REPLACED(new_aligned))
    return call_new_aligned(size, align);
  return new_aligned_nothrow(size, align);
}

// -- delete -------------------------------------------------------------------

OPERATOR void operator delete(void *pointer) noexcept {
  delete_fast(pointer, kDelete);
}

OPERATOR void operator delete[](void *pointer) noexcept {
  call_delete(pointer, kDeleteArray);
}

OPERATOR void operator delete(void *pointer, const nothrow_t &) noexcept {
  call_delete(pointer, kDelete);
}

OPERATOR void operator delete[](void *pointer, const nothrow_t &) noexcept {
  call_delete_array(pointer);
}

OPERATOR void operator delete(void *pointer, size_t size) noexcept {
  if (TCX_REPLACED(delete_plain))
    return tcx_operators.delete_plain(pointer);
  delete_fast_sized(pointer, size, kDelete);
}

OPERATOR void operator delete[](void *pointer, size_t size) noexcept {
  if (TCX_REPLACED(delete_array))
    return tcx_operators.delete_array(pointer);
  if (TCX_REPLACED(delete_plain))
    return tcx_operators.delete_plain(pointer);
  delete_fast_sized(pointer, size, kDeleteArray);
}

OPERATOR void operator delete(void *pointer, align_val_t) noexcept {
  delete_fast(pointer, kDelete);
}

OPERATOR void operator delete[](void *pointer, align_val_t align) noexcept {
  call_delete_aligned(pointer, align, kDeleteArray);
}

OPERATOR void operator delete(void *pointer, align_val_t align,
                              const nothrow_t &) noexcept {
  call_delete_aligned(pointer, align, kDelete);
}

OPERATOR void operator delete[](void *pointer, align_val_t align,
                                const nothrow_t &) noexcept {
  call_delete_array_aligned(pointer, align);
}

// The class of an aligned object follows from both numbers.

OPERATOR void operator delete(void *pointer, size_t size,
                              align_val_t align) noexcept {
  if (TCX_REPLACED(delete_aligned))
    return call_delete_aligned(pointer, align, kDelete);
  delete_aligned_sized(pointer, size, align, kDelete);
}

OPERATOR void operator delete[](void *pointer, size_t size,
                                align_val_t align) noexcept {
  if (TCX_REPLACED(delete_array_aligned) || TCX_REPLACED(delete_aligned))
    return call_delete_array_aligned(pointer, align);
  delete_aligned_sized(pointer, size, align, kDeleteArray);
}

// -- ours, by names that nobody replaces --------------------------------------

// gcc wants an alias to have every attribute that <new> gives its target. These
// are never called, only compared.
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmissing-attributes"
#endif
#define OWN(name, mangled) decltype(name) name __attribute__((alias(mangled)))

extern "C" {
OWN(tcx_operator_new_plain, "_Znwm");
OWN(tcx_operator_new_array, "_Znam");
OWN(tcx_operator_new_aligned, "_ZnwmSt11align_val_t");
OWN(tcx_operator_new_array_aligned, "_ZnamSt11align_val_t");
OWN(tcx_operator_delete_plain, "_ZdlPv");
OWN(tcx_operator_delete_array, "_ZdaPv");
OWN(tcx_operator_delete_aligned, "_ZdlPvSt11align_val_t");
OWN(tcx_operator_delete_array_aligned, "_ZdaPvSt11align_val_t");
}

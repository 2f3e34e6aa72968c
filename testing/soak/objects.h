// objects.h -- objects of the soak under a shadow model: what was asked for,
// and what must be found in each byte.
//
// PLACE IN THE SYSTEM: soak.cc moves objects between threads and processes;
// here
//   they are made, checked, resized and freed, by every function that can.
//
// An object is live with a pattern in all its usable bytes (large ones: in
// some words). It is checked before each resize and free. Whatever does
// not fit the model ends the process with one line.
//
// The program runs on any malloc: what only tcx has is a weak reference.
#ifndef TCX_TESTING_SOAK_OBJECTS_H_
#define TCX_TESTING_SOAK_OBJECTS_H_

#include <stddef.h>
#include <stdint.h>

#include <atomic>

namespace soak {

// A generator of its own: that of the C++ library may change.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15 + 1) {}
  uint64_t Next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1d;
  }
  uint64_t Below(uint64_t limit) {
    return (Next() >> 11) % limit;
  }
  bool OneIn(uint64_t chance) {
    return Below(chance) == 0;
  }

 private:
  uint64_t state_;
};

// Who sees an object in another thread, or in the child of a fork, may touch it
// only after a step from kLive to kBusy.
enum State : uint32_t { kEmpty, kBusy, kLive };

struct Object {
  std::atomic<uint32_t> state;
  unsigned char *start;
  size_t size;    // as asked for
  size_t usable;  // what malloc_usable_size says; the pattern is as long
  size_t align;   // as asked for; 0: nothing was
  uint64_t seed;  // of the pattern

  bool Claim(uint32_t from) {
    uint32_t expected = from;
    return state.compare_exchange_strong(expected, kBusy);
  }
};

// Steps of an object that is busy. Make may leave it without memory: start is
// null then, and Free and Check do nothing.
void Make(Random *random, size_t size, Object *object);
void Check(const Object &object);
void Resize(Random *random, size_t size, Object *object);
void Free(Random *random, Object *object);

// Mostly small, now and then up to 48 MiB.
size_t RandomSize(Random *random);

// Requests that no allocator can meet, by each function: NULL and ENOMEM, or
// std::bad_alloc.
void AskForTooMuch(Random *random);

// Figures and reports; gives memory back.
void ReadFigures(Random *random);

// True on tcx: the figures at the end of the run are held against the model.
bool RunsOnTcx();

// Written into each fault.
extern uint64_t program_seed;
[[noreturn]] void Fault(const char *what, const Object *object);

}  // namespace soak

#endif  // TCX_TESTING_SOAK_OBJECTS_H_

// filler_steps_testing.h -- what a test or a fuzzer does to the filler's model:
// one step, chosen by numbers.
#ifndef TCX_BACKEND_HPAA_FILLER_STEPS_TESTING_H_
#define TCX_BACKEND_HPAA_FILLER_STEPS_TESTING_H_

#include <cstddef>

#include "backend/hpaa/filler_testing.h"

namespace tcx {
namespace testing {

// What a huge page can be made of.
template <typename Source>
unsigned MemoryFlags(Source *source) {
  static const unsigned flags[] = {TCX_TRACKER_HUGE,
                                   TCX_TRACKER_HUGE,
                                   TCX_TRACKER_HUGE | TCX_TRACKER_ZERO,
                                   0,
                                   TCX_TRACKER_UNBACKED,
                                   TCX_TRACKER_ZERO,
                                   TCX_TRACKER_BROKEN,
                                   TCX_TRACKER_BROKEN | TCX_TRACKER_UNBACKED};
  return flags[source->Below(8)];
}

// One step. Source has Below(n): a number below n.
template <typename Source>
void FillerStep(FillerModel *model, Source *source) {
  size_t choice = source->Below(64);
  unsigned limit = source->Below(2) == 0 ? 4 : kPages / 2 + 1;
  unsigned pages = 1 + static_cast<unsigned>(source->Below(limit));
  if (choice < 10) {
    model->Allocate({1, 1, 64, 0, 0}, MemoryFlags(source));
  } else if (choice < 26) {
    model->Allocate({pages, 1, 1, 0, 0}, MemoryFlags(source));
  } else if (choice < 28) {
    size_t align_pages = 2u << source->Below(3);
    model->Allocate({pages, align_pages, 1, 0, 0}, MemoryFlags(source));
  } else if (choice < 30) {
    model->Donate(1 + static_cast<unsigned>(source->Below(kPages - 1)),
                  MemoryFlags(source));
  } else if (choice < 46) {
    if (model->runs() > 0)
      model->Free(source->Below(model->runs()), source->Below(8) == 0);
  } else if (choice < 50) {
    if (model->runs() > 0) {
      size_t index = source->Below(model->runs());
      unsigned now = model->run(index).pages;
      bool is_longer = source->Below(2) == 0;
      model->Resize(index, is_longer ? now + pages : 1 + pages % now);
    }
  } else if (choice < 55) {
    if (model->releases() < 3)
      model->BeginRelease(
          static_cast<tcx_filler_release_kind>(source->Below(3)));
  } else if (choice < 58) {
    if (model->releases() > 0) {
      size_t index = source->Below(model->releases());
      bool can_break = source->Below(4) != 0;
      unsigned succeeds = static_cast<unsigned>(source->Below(1 << 16));
      model->EndRelease(index, can_break,
                        source->Below(2) == 0 ? 0xffff : succeeds);
    }
  } else if (choice < 60) {
    if (model->mends() < 2)
      model->BeginMend();
  } else if (choice < 61) {
    if (model->mends() > 0)
      model->EndMend(source->Below(model->mends()), source->Below(4) != 0);
  } else if (choice < 62) {
    model->Retry();
  } else {
    model->Pass(source->Below(2) == 0 ? source->Below(2000)
                                      : source->Below(40000));
  }
}

}  // namespace testing
}  // namespace tcx

#endif  // TCX_BACKEND_HPAA_FILLER_STEPS_TESTING_H_

// Fuzz target of the filler: runs, donated ends, pages moved away, releases
// that fail, mending and time, against the model of filler_testing.h, which
// compares each answer. The walk of the invariants follows some of the steps,
// and the last.
#include <cstddef>
#include <cstdint>

#include "backend/hpaa/filler_steps_testing.h"
#include "testing/fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  tcx::testing::FuzzInput input(data, bytes);
  tcx::testing::FillerModel model(8);
  for (unsigned step = 0; !input.empty(); step++) {
    tcx::testing::FillerStep(&model, &input);
    if (step % 8 == 0)
      model.Check();
  }
  return 0;
}

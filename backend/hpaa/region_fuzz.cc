// Fuzz target of regions and their set, against a state for each page.
#include <cstddef>
#include <cstdint>

#include "backend/hpaa/region_model.h"
#include "testing/fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  tcx::testing::FuzzInput input(data, bytes);
  tcx::testing::RegionModel model(1 + input.Below(3));
  while (!input.empty()) {
    model.Step([&input](size_t bound) { return input.Below(bound); });
    model.Check();
  }
  return 0;
}

// Fuzz target of the hugepage-aware page source, on a system whose calls fail
// and a clock that runs when the input says so. The model is hpaa_model.h's.
#include <cstddef>
#include <cstdint>

#include "backend/hpaa/hpaa_model.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  tcx::testing::RunHpaaModel(data, bytes);
  return 0;
}

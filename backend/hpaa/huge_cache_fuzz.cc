// Fuzz target of huge_cache.h: free huge pages that are kept for a while.
//
// Model: what the cache held at each millisecond of simulated time
// (huge_cache_model.h), compared after each step.
#include <cstddef>
#include <cstdint>

#include "backend/hpaa/huge_cache_model.h"
#include "testing/fuzz_input.h"

namespace {

using tcx::testing::FuzzInput;
using tcx::testing::HugeCacheAndModel;

constexpr uint64_t kHuge = 100;

void Step(HugeCacheAndModel *cache, FuzzInput *input) {
  unsigned choice = input->Byte() % 16;
  if (choice < 5) {
    uint64_t index = input->Below(kHuge);
    cache->Put(index, 1 + input->Below(kHuge / 4));
  } else if (choice < 7) {
    uint64_t count = 1 + input->Below(16);
    cache->Take(count, choice == 5 ? 1 : uint64_t{1} << input->Below(5));
  } else if (choice == 7) {
    uint64_t index = input->Below(kHuge);
    cache->TakeAt(index, 1 + input->Below(4));
  } else if (choice == 8) {
    cache->Evict(input->Below(20));
  } else if (choice < 11) {
    cache->Due(input->Below(20));
  } else if (choice < 13) {
    cache->Unbacked(choice == 11);
  } else if (choice == 13) {
    cache->Retry();
  } else {
    cache->Sleep(input->Size(12));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  FuzzInput input(data, bytes);
  HugeCacheAndModel cache(kHuge, input.Number(2));
  while (!input.empty()) {
    Step(&cache, &input);
    cache.Check();
  }
  return 0;
}

// Fuzz target of huge_map.h: free runs of huge pages by address.
//
// Model: a std::map of the runs (huge_map_model.h), compared after each step.
#include <cstddef>
#include <cstdint>

#include "backend/hpaa/huge_map_model.h"
#include "testing/fuzz_input.h"

namespace {

using tcx::testing::FuzzInput;
using tcx::testing::HugeMapAndModel;

constexpr uint64_t kHuge = 200;

void Step(HugeMapAndModel *map, FuzzInput *input) {
  unsigned choice = input->Byte() % 16;
  if (choice < 7) {
    uint64_t index = input->Below(kHuge);
    map->Insert(index, 1 + input->Below(choice < 4 ? 3 : 40));
  } else if (choice < 10) {
    map->Take(1 + input->Below(choice < 9 ? 4 : 40), 1);
  } else if (choice < 12) {
    uint64_t count = 1 + input->Below(20);
    map->Take(count, uint64_t{1} << input->Below(8));
  } else if (choice < 14) {
    uint64_t index = input->Below(kHuge);
    map->TakeAt(index, 1 + input->Below(10));
  } else if (choice == 14) {
    uint64_t count = 1 + input->Below(20);
    map->TakeLast(count, HugeMapAndModel::kFirst + input->Below(2 * kHuge));
  } else {
    map->Next(input->Below(kHuge));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  FuzzInput input(data, bytes);
  HugeMapAndModel map(kHuge);
  while (!input.empty()) {
    Step(&map, &input);
    map.Check();
  }
  return 0;
}

// rbstore.cc -- an ordered key store on red-black trees, as C++ programs have
// them: nodes, keys and values each a new and a sized delete.
//
//   rbstore [OPERATIONS]

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

namespace {

class Random {
 public:
  uint32_t Below(uint32_t bound) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>(((state_ >> 32) * bound) >> 32);
  }

 private:
  uint64_t state_ = 3;
};

constexpr uint32_t kKeys = 200000;

std::string Key(uint32_t number) {
  return "customer/" + std::to_string(number) + "/account";
}

}  // namespace

int main(int argc, char **argv) {
  unsigned long operations =
      argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 1000000;
  std::map<std::string, std::string> store;
  Random random;
  uint64_t sum = 0;
  for (unsigned long n = 0; n < operations; n++) {
    std::string key = Key(random.Below(kKeys));
    uint32_t lot = random.Below(10);
    if (lot < 5) {
      store[key] = std::string(20 + random.Below(200), 'v');
    } else if (lot < 8) {
      store.erase(key);
    } else {
      auto found = store.find(key);
      if (found != store.end())
        sum += found->second.size();
    }
  }
  std::printf("rbstore %llu %zu\n", static_cast<unsigned long long>(sum),
              store.size());
  return 0;
}

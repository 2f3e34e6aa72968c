// main.cc -- a C++ program on tcx: threads and containers.
#include <cstddef>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

extern "C" std::size_t tcx_served_objects(void) __attribute__((weak));

namespace {

constexpr int kThreads = 4;
constexpr int kKeys = 5000;

void Work(std::size_t *sum) {
  std::map<int, std::string> words;
  for (int i = 0; i < kKeys; i++)
    words[i] = std::string(static_cast<std::size_t>(i % 100) + 20, 'x');
  for (const auto &word : words)
    *sum += word.second.size();
}

}  // namespace

int main() {
  std::vector<std::size_t> sums(kThreads);
  std::vector<std::unique_ptr<std::thread>> threads;
  for (std::size_t &sum : sums)
    threads.push_back(
        std::unique_ptr<std::thread>(new std::thread(Work, &sum)));
  for (auto &thread : threads)
    thread->join();
  std::size_t total = 0;
  for (std::size_t sum : sums)
    total += sum;
  std::size_t served = tcx_served_objects ? tcx_served_objects() : 0;
  bool ok = served >= kThreads * kKeys && total == kThreads * 347500u;
  std::puts(ok ? "served by tcx" : "NOT served by tcx");
  return ok ? 0 : 1;
}

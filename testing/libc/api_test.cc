// Tests of include/tcx/tcx.h, in a program that is linked with tcx.
//
// Method: each function beside what malloc's own functions say, and its errors
// as the header has them.
#include "tcx/tcx.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdint>
#include <string>

#include "testing/libc/support.h"

namespace {

std::string Get(const char *name) {
  char value[64];
  return tcx_get(name, value, sizeof value) == 0 ? value : "?";
}

tcx_statistics Statistics() {
  tcx_statistics out = {};
  out.struct_size = sizeof out;
  EXPECT_EQ(tcx_statistics_get(&out), 0);
  return out;
}

TEST(ApiTest, VersionIsThatOfTheHeader) {
  EXPECT_EQ(tcx_version_number(), unsigned{TCX_VERSION_NUMBER});
  EXPECT_EQ(tcx_version_string(), std::to_string(TCX_VERSION_MAJOR) + "." +
                                      std::to_string(TCX_VERSION_MINOR) + "." +
                                      std::to_string(TCX_VERSION_PATCH));
}

TEST(ApiTest, ObjectsAreKnownByTheirStart) {
  for (size_t size : {1u, 100u, 5000u, 300000u, 9000000u}) {
    char *object = static_cast<char *>(Keep(malloc(size)));
    EXPECT_EQ(tcx_owns(object), 1);
    EXPECT_EQ(tcx_owns(object + 1), 0);
    EXPECT_EQ(tcx_size_of(object), malloc_usable_size(object));
    EXPECT_EQ(tcx_size_of(object), tcx_good_size(size));
    EXPECT_EQ(tcx_size_class(object) == 0, size > 4 << 20);
    free(object);
  }
  EXPECT_EQ(tcx_good_size(SIZE_MAX), 0u);
  EXPECT_EQ(tcx_good_size(size_t{1} << 50), 0u);
}

TEST(ApiTest, OthersPointersAreNotOwned) {
  int here = 0;
  static int there;
  const void *wild = reinterpret_cast<void *>(uintptr_t{1} << 60);
  for (const void *pointer :
       {static_cast<const void *>(&here), static_cast<const void *>(&there),
        wild, static_cast<const void *>(nullptr)}) {
    EXPECT_EQ(tcx_owns(pointer), 0);
    EXPECT_EQ(tcx_size_of(pointer), 0u);
    EXPECT_EQ(tcx_size_class(pointer), 0u);
  }
}

TEST(ApiTest, SettingsAndTheirErrors) {
  EXPECT_EQ(tcx_set("thread_cache", "8M"), 0);
  EXPECT_EQ(Get("thread_cache"), "8388608");
  EXPECT_EQ(tcx_set("thread_cache", "8Q"), EINVAL);
  EXPECT_EQ(tcx_set("thread_cache", "1"), ERANGE);
  EXPECT_EQ(tcx_set("no_such_setting", "1"), ENOENT);
  EXPECT_EQ(tcx_set("harden", "1"), EPERM);
  EXPECT_EQ(Get("thread_cache"), "8388608");
  EXPECT_EQ(Get("harden"), "0");
  char small[4] = "abc";
  EXPECT_EQ(tcx_get("thread_cache", small, sizeof small), ERANGE);
  EXPECT_STREQ(small, "abc");
  EXPECT_EQ(tcx_get("no_such_setting", small, sizeof small), ENOENT);
}

int Refuse(void *calls, size_t wanted) {
  EXPECT_EQ(wanted, size_t{64} << 20);
  ++*static_cast<int *>(calls);
  return 0;
}

// More of it in testing/release.
TEST(ApiTest, HardLimitAsksTheCallback) {
  int calls = 0;
  ASSERT_EQ(tcx_set_hard_limit_callback(Refuse, &calls), 0);
  ASSERT_EQ(tcx_set("hard_limit_policy", "callback"), 0);
  ASSERT_EQ(tcx_set("hard_limit", "32M"), 0);
  errno = 0;
  EXPECT_EQ(Keep(malloc(64 << 20)), nullptr);
  EXPECT_EQ(errno, ENOMEM);
  EXPECT_EQ(calls, 1);
  ASSERT_EQ(tcx_set_hard_limit_callback(nullptr, nullptr), 0);
  EXPECT_EQ(Keep(malloc(64 << 20)), nullptr);
  EXPECT_EQ(calls, 1);
  ASSERT_EQ(tcx_set("hard_limit", "0"), 0);
  void *object = Keep(malloc(64 << 20));
  EXPECT_NE(object, nullptr);
  free(object);
  ASSERT_EQ(tcx_set("hard_limit_policy", "fail"), 0);
}

TEST(ApiTest, StatisticsCountAndAddUp) {
  const size_t kBytes = 64 << 20;
  uint64_t before = Statistics().allocated_bytes;
  void *object = Keep(malloc(kBytes));
  tcx_statistics s = Statistics();
  EXPECT_EQ(s.version, unsigned{TCX_STATISTICS_VERSION});
  EXPECT_EQ(s.allocated_bytes - before, kBytes);
  EXPECT_EQ(s.mapped_bytes, s.resident_bytes + s.released_bytes);
  EXPECT_EQ(s.resident_bytes,
            s.allocated_bytes + s.thread_cache_bytes + s.cpu_cache_bytes +
                s.run_cache_bytes + s.transfer_bytes + s.central_free_bytes +
                s.span_tail_bytes + s.page_free_bytes + s.metadata_bytes);
  free(object);
  tcx_statistics old = {};
  old.struct_size = sizeof old - 1;
  EXPECT_EQ(tcx_statistics_get(&old), EINVAL);
}

TEST(ApiTest, ReleaseGivesFreeMemoryBack) {
  const size_t kBytes = 32 << 20;
  void *object = Keep(malloc(kBytes));
  Fill(object, kBytes, 1);
  free(object);
  tcx_tick();
  EXPECT_GE(Statistics().page_free_bytes, kBytes);
  EXPECT_GE(tcx_release(SIZE_MAX), kBytes);
  EXPECT_EQ(Statistics().page_free_bytes, 0u);
  EXPECT_EQ(tcx_release(SIZE_MAX), 0u);
}

std::string Report() {
  int ends[2];
  if (pipe(ends) != 0)
    return "";
  tcx_statistics_print(ends[1]);
  close(ends[1]);
  std::string text(size_t{1} << 20, 0);
  ssize_t bytes = read(ends[0], &text[0], text.size());
  close(ends[0]);
  text.resize(bytes > 0 ? static_cast<size_t>(bytes) : 0);
  return text;
}

uint64_t Reported(const std::string &name) {
  std::string text = Report();
  size_t at = text.find(name + " ");
  EXPECT_NE(at, std::string::npos);
  return at != std::string::npos ? std::stoull(text.substr(at + name.size()))
                                 : 0;
}

TEST(ApiTest, PrintsTheReport) {
  EXPECT_NE(Report().find("allocated_bytes"), std::string::npos);
}

TEST(ApiTest, TickDoesAllThatIsDueAndNothingElse) {
  const size_t kBytes = 160 << 20;
  tcx_release(SIZE_MAX);
  void *object = Keep(malloc(kBytes));
  Fill(object, kBytes, 1);
  free(object);
  uint64_t rounds = Reported("release_rounds");
  // The text of the report took a little of it.
  uint64_t free_bytes = Statistics().page_free_bytes;
  EXPECT_GE(free_bytes, kBytes - kBytes / 32);
  for (int i = 0; i < 10000; i++)
    tcx_tick();
  EXPECT_GE(Statistics().page_free_bytes, free_bytes);
  EXPECT_LE(Reported("release_rounds") - rounds, 10u);
  usleep(2500000);
  tcx_tick();
  EXPECT_LT(Statistics().page_free_bytes, kBytes / 4);
}

}  // namespace

// os_files_test.cc -- numbers out of files, with the kernel's own and with
// others.
//
// Method: files of this machine whose content is known, files that are not
// there, and a table of calls that answers to order.
#include "base/os_files.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <string.h>
#include <unistd.h>

#include <fstream>
#include <string>

namespace {

bool Parse(const std::string &text, uint64_t *out) {
  return tcx_os_parse_number(text.data(), text.size(), out);
}

TEST(OsFilesTest, NumbersAreReadToTheirEnd) {
  uint64_t value = 1;
  EXPECT_TRUE(Parse("0", &value));
  EXPECT_EQ(value, 0u);
  EXPECT_TRUE(Parse("12345\n", &value));
  EXPECT_EQ(value, 12345u);
  EXPECT_TRUE(Parse("18446744073709551615", &value));
  EXPECT_EQ(value, UINT64_MAX);
  EXPECT_TRUE(Parse("18446744073709551616", &value));
  EXPECT_EQ(value, UINT64_MAX);
  EXPECT_TRUE(Parse("max\n", &value));
  EXPECT_EQ(value, UINT64_MAX);
}

TEST(OsFilesTest, OtherTextsAreNoNumbers) {
  uint64_t value;
  for (const char *text : {"", "\n", "ma", "-1", " 1", "x1"})
    EXPECT_FALSE(Parse(text, &value)) << text;
}

TEST(OsFilesTest, ReadsFromAnOffsetAndKeepsErrno) {
  std::string path =
      testing::TempDir() + "/os_files_" + std::to_string(getpid());
  std::ofstream(path) << "0123456789";
  errno = 4711;
  char buffer[4];
  EXPECT_EQ(tcx_os_read_file(path.c_str(), 0, buffer, sizeof buffer), 4);
  EXPECT_EQ(memcmp(buffer, "0123", 4), 0);
  EXPECT_EQ(tcx_os_read_file(path.c_str(), 8, buffer, sizeof buffer), 2);
  EXPECT_EQ(memcmp(buffer, "89", 2), 0);
  EXPECT_EQ(tcx_os_read_file(path.c_str(), 10, buffer, sizeof buffer), 0);
  unlink(path.c_str());
  EXPECT_EQ(tcx_os_read_file(path.c_str(), 0, buffer, sizeof buffer), -ENOENT);
  uint64_t value;
  EXPECT_FALSE(tcx_os_read_number(path.c_str(), &value));
  EXPECT_EQ(errno, 4711);
}

TEST(OsFilesTest, AFileIsReadToItsEnd) {
  std::string path =
      testing::TempDir() + "/os_files_all_" + std::to_string(getpid());
  std::ofstream(path) << "0123456789";
  errno = 4711;
  int fd = tcx_os_open_read(path.c_str());
  ASSERT_GE(fd, 0);
  char buffer[8];
  EXPECT_EQ(tcx_os_read(fd, buffer, sizeof buffer), 8);
  EXPECT_EQ(tcx_os_read(fd, buffer, sizeof buffer), 2);
  EXPECT_EQ(memcmp(buffer, "89", 2), 0);
  EXPECT_EQ(tcx_os_read(fd, buffer, sizeof buffer), 0);
  close(fd);
  EXPECT_EQ(tcx_os_read(fd, buffer, sizeof buffer), -EBADF);
  unlink(path.c_str());
  EXPECT_EQ(tcx_os_open_read(path.c_str()), -ENOENT);
  EXPECT_EQ(errno, 4711);
}

TEST(OsFilesTest, TheKernelAnswers) {
  uint64_t mappings = 0;
  ASSERT_TRUE(tcx_os_read_number("/proc/sys/vm/max_map_count", &mappings));
  EXPECT_GT(mappings, 0u);
  EXPECT_GE(tcx_os_thp_disable(), 0);
}

TEST(OsFilesTest, AnInstalledTableAnswers) {
  static const tcx_os_files fake = {
      [](const char *, uint64_t, char *buffer, size_t) -> intptr_t {
        buffer[0] = '7';
        return 1;
      },
      []() -> intptr_t { return 3; },
  };
  tcx_os_files_install(&fake);
  uint64_t value = 0;
  EXPECT_TRUE(tcx_os_read_number("/any", &value));
  EXPECT_EQ(value, 7u);
  EXPECT_EQ(tcx_os_thp_disable(), 3);
  tcx_os_files_install(&tcx_os_files_linux);
}

}  // namespace

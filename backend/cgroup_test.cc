// cgroup_test.cc -- the group that counts, and what its files say.
//
// Method: the files of machines with version 1, version 2 and both, inside and
// outside of containers, as texts; then the files of this machine.
#include "backend/cgroup.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <string.h>

#include <string>

#include "backend/fake_files.h"

namespace {

using tcx::testing::FakeFiles;

constexpr uint64_t kNone = UINT64_MAX;
constexpr char kGroup[] = "/proc/self/cgroup";
constexpr char kMounts[] = "/proc/self/mountinfo";

const char kMountTwo[] =
    "22 27 0:21 / /proc rw,nosuid shared:14 - proc proc rw\n"
    "30 23 0:26 / /sys/fs/cgroup rw,nosuid,relatime shared:9 - cgroup2 "
    "cgroup2 rw,nsdelegate,memory_recursiveprot\n";
const char kMountsOne[] =
    "34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup "
    "rw,memory\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
const char kGroupsOne[] =
    "9:name=systemd:/\n4:memory:/a/b\n3:cpuset:/other\n0::/unified\n";

class CgroupTest : public testing::Test {
 protected:
  bool Find() {
    bool found = tcx_cgroup_find(&group_) == 0;
    EXPECT_EQ(found, group_.version != 0);
    return found;
  }
  std::string Path() {
    return Find() ? group_.path : "none";
  }
  // "limit charge" of a level, or "none".
  std::string Read(unsigned level) {
    tcx_cgroup_memory memory;
    int error = tcx_cgroup_read(&group_, level, &memory);
    if (error != 0)
      return error == ENOENT ? "none" : strerrorname_np(error);
    std::string limit = memory.limit_bytes == kNone
                            ? "max"
                            : std::to_string(memory.limit_bytes);
    return limit + " " + std::to_string(memory.charge_bytes);
  }

  FakeFiles files_;
  tcx_cgroup group_;
};

// -- Finding ------------------------------------------------------------------

TEST_F(CgroupTest, FindsVersionTwo) {
  files_[kMounts] = kMountTwo;
  files_[kGroup] = "0::/user.slice/app.scope\n";
  EXPECT_EQ(Path(), "/sys/fs/cgroup/user.slice/app.scope");
  EXPECT_EQ(group_.version, 2u);
  files_[kGroup] = "0::/\n";
  EXPECT_EQ(Path(), "/sys/fs/cgroup");
}

TEST_F(CgroupTest, MemoryControllerOfVersionOneWins) {
  files_[kMounts] = kMountsOne;
  files_[kGroup] = kGroupsOne;
  EXPECT_EQ(Path(), "/sys/fs/cgroup/memory/a/b");
  EXPECT_EQ(group_.version, 1u);
  // Listed with another one, and behind version 2.
  files_[kGroup] = "0::/u\n5:cpu,memory:/c\n";
  EXPECT_EQ(Path(), "/sys/fs/cgroup/memory/c");
  // Without it, version 2 counts.
  files_[kGroup] = "4:memoryless:/a\n0::/u\n";
  EXPECT_EQ(Path(), "/sys/fs/cgroup/unified/u");
}

TEST_F(CgroupTest, ContainerSeesAPartOfTheTree) {
  files_[kMounts] =
      "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup "
      "rw,memory\n";
  files_[kGroup] = "4:memory:/docker/abc\n";
  EXPECT_EQ(Path(), "/sys/fs/cgroup/memory");
  files_[kGroup] = "4:memory:/docker/abc/worker\n";
  EXPECT_EQ(Path(), "/sys/fs/cgroup/memory/worker");
  files_[kGroup] = "4:memory:/docker/abcd\n";
  EXPECT_EQ(Path(), "none");
  files_[kGroup] = "4:memory:/docker\n";
  EXPECT_EQ(Path(), "none");
}

TEST_F(CgroupTest, NothingToFind) {
  EXPECT_FALSE(Find());
  files_[kGroup] = "0::/a\n";
  EXPECT_FALSE(Find()) << "no mounts";
  files_[kMounts] = "22 27 0:21 / /proc rw shared:14 - proc proc rw\n";
  EXPECT_FALSE(Find()) << "not mounted";
  files_[kMounts] = kMountTwo;
  files_[kGroup] = "";
  EXPECT_FALSE(Find());
  files_[kGroup] = "nonsense\n\n::\n:\n";
  EXPECT_FALSE(Find());
  files_[kGroup] = "0::/" + std::string(TCX_CGROUP_PATH_BYTES, 'x') + "\n";
  EXPECT_FALSE(Find()) << "the path is too long";
  files_[kGroup] = "0::/" + std::string(TCX_CGROUP_PATH_BYTES - 10, 'x') + "\n";
  EXPECT_FALSE(Find()) << "the joined path is too long";
}

TEST_F(CgroupTest, LongFilesAndLongLines) {
  std::string mounts;
  for (int i = 0; i < 200; i++)
    mounts += "22 27 0:21 / /mnt/" + std::to_string(i) + " rw - proc p rw\n";
  mounts += "1 2 3:4 / /" + std::string(5000, 'x') + " rw - cgroup2 c rw\n";
  files_[kGroup] = "0::/a";  // without an end of line
  files_[kMounts] = mounts;
  EXPECT_EQ(Path(), "none");
  files_[kMounts] = mounts + kMountTwo;
  EXPECT_EQ(Path(), "/sys/fs/cgroup/a");
  files_[kMounts] = mounts + std::string(5000, 'y');
  EXPECT_EQ(Path(), "none");
}

TEST_F(CgroupTest, TheEndOfALongLineIsNoLine) {
  files_[kMounts] = kMountTwo;
  files_[kGroup] = std::string(1024, 'x') + "0::/wrong\n";
  EXPECT_EQ(Path(), "none");
  files_[kGroup] += "0::/right\n";
  EXPECT_EQ(Path(), "/sys/fs/cgroup/right");
}

TEST_F(CgroupTest, LongestPath) {
  files_[kMounts] = kMountTwo;
  size_t room = TCX_CGROUP_PATH_BYTES - 1 - strlen("/sys/fs/cgroup/");
  files_[kGroup] = "0::/" + std::string(room, 'x') + "\n";
  EXPECT_EQ(Path().size(), size_t{TCX_CGROUP_PATH_BYTES - 1});
  files_[kGroup] = "0::/" + std::string(room + 1, 'x') + "\n";
  EXPECT_EQ(Path(), "none");
}

// -- Reading ------------------------------------------------------------------

TEST_F(CgroupTest, ReadsEveryLevelOfVersionTwo) {
  files_[kMounts] = kMountTwo;
  files_[kGroup] = "0::/a/b\n";
  std::string root = "/sys/fs/cgroup";
  files_[root + "/a/b/memory.max"] = "max\n";
  files_[root + "/a/b/memory.high"] = "max\n";
  files_[root + "/a/b/memory.current"] = "1000\n";
  files_[root + "/a/memory.max"] = "9000\n";
  files_[root + "/a/memory.high"] = "8000\n";
  files_[root + "/a/memory.current"] = "3000\n";
  files_[root + "/a/memory.stat"] =
      "anon 500\nfile 1200\ninactive_file 700\nactive_file 500\n";
  ASSERT_TRUE(Find());
  EXPECT_EQ(Read(0), "max 1000");
  EXPECT_EQ(Read(1), "8000 2300");
  EXPECT_EQ(Read(2), "max 0") << "the root has no such files";
  EXPECT_EQ(Read(3), "none");
  files_[root + "/a/memory.high"] = "max\n";
  EXPECT_EQ(Read(1), "9000 2300");
}

TEST_F(CgroupTest, ReadsVersionOne) {
  files_[kMounts] = kMountsOne;
  files_[kGroup] = kGroupsOne;
  std::string root = "/sys/fs/cgroup/memory";
  files_[root + "/a/b/memory.limit_in_bytes"] = "5000\n";
  files_[root + "/a/b/memory.usage_in_bytes"] = "900\n";
  files_[root + "/a/b/memory.stat"] =
      "inactive_file 1\ntotal_inactive_file 1000\n";
  files_[root + "/a/memory.limit_in_bytes"] = "9223372036854771712\n";
  files_[root + "/a/memory.usage_in_bytes"] = "2000\n";
  ASSERT_TRUE(Find());
  EXPECT_EQ(Read(0), "5000 0");
  EXPECT_EQ(Read(1), "max 2000");
}

TEST_F(CgroupTest, RootOfTheTreeHasNoCharge) {
  files_[kMounts] = kMountTwo;
  files_[kGroup] = "0::/\n";
  ASSERT_TRUE(Find());
  EXPECT_EQ(Read(0), "max 0");
  EXPECT_EQ(Read(1), "none");
}

TEST_F(CgroupTest, FolderThatIsGone) {
  files_[kMounts] = kMountTwo;
  files_[kGroup] = "0::/a\n";
  ASSERT_TRUE(Find());
  EXPECT_EQ(Read(0), "none");
  files_["/sys/fs/cgroup/a/memory.max"] = "100\n";
  EXPECT_EQ(Read(0), "none") << "a limit without a charge";
  files_["/sys/fs/cgroup/a/memory.current"] = "nonsense\n";
  EXPECT_EQ(Read(0), "none");
  group_.version = 0;
  EXPECT_EQ(Read(0), "none");
}

// Unlike what is gone, it says nothing about limits.
TEST_F(CgroupTest, WhatCannotBeReadThisTime) {
  files_[kMounts] = kMountTwo;
  files_[kGroup] = "0::/a/b\n";
  std::string root = "/sys/fs/cgroup";
  for (const char *folder : {"/a/b", "/a"}) {
    files_[root + folder + "/memory.max"] = "1000\n";
    files_[root + folder + "/memory.current"] = "100\n";
  }
  ASSERT_TRUE(Find());
  int error = EMFILE;
  std::string failing;
  files_.error_of = [&](const std::string &path) {
    return path == failing ? error : 0;
  };
  for (const char *file :
       {"/memory.current", "/memory.max", "/memory.high", "/memory.stat"}) {
    failing = root + "/a/b" + file;
    EXPECT_EQ(Read(0), "EMFILE") << file;
    EXPECT_EQ(Read(1), "1000 100");
    failing = root + "/a" + file;
    EXPECT_EQ(Read(1), "EMFILE") << file;
  }
  failing = root + "/memory.current";
  EXPECT_EQ(Read(2), "EMFILE") << "where it is mounted";
  error = EACCES;
  EXPECT_EQ(Read(2), "max 0") << "it is not for this process to see";
  failing = root + "/a/b/memory.current";
  EXPECT_EQ(Read(0), "EACCES");
  error = ENODEV;
  EXPECT_EQ(Read(0), "none");
  error = EMFILE;
  for (const char *file : {kGroup, kMounts}) {
    failing = file;
    EXPECT_EQ(tcx_cgroup_find(&group_), EMFILE);
    EXPECT_EQ(group_.path, root + "/a/b") << "as it was";
    EXPECT_EQ(group_.version, 2u);
  }
}

TEST_F(CgroupTest, LevelsEndAtTheMount) {
  files_[kMounts] = kMountTwo;
  std::string path = "/";
  for (int i = 0; i < 100; i++)
    path += "x/";
  files_[kGroup] = "0::" + path + "\n";
  ASSERT_TRUE(Find());
  unsigned level = 0;
  tcx_cgroup_memory memory;
  while (tcx_cgroup_read(&group_, level, &memory) == 0 || level == 0)
    level++;
  EXPECT_EQ(level, unsigned{TCX_CGROUP_LEVELS_MAX});
}

TEST(CgroupMachineTest, ReadsThisMachine) {
  tcx_cgroup group;
  if (tcx_cgroup_find(&group) != 0)
    GTEST_SKIP() << "no cgroup of memory here";
  tcx_cgroup_memory memory;
  if (tcx_cgroup_read(&group, 0, &memory) != 0)
    GTEST_SKIP() << "the folder cannot be read from here";
  EXPECT_GT(memory.charge_bytes, 0u);
  EXPECT_GE(memory.limit_bytes, memory.charge_bytes);
}

}  // namespace

// refuse.c -- runs a command under a seccomp filter: some system calls fail.
//
// usage: refuse CALL=WHAT... -- COMMAND...
//   CALL is rseq, membarrier or fence (of membarrier, the fence alone); WHAT is
//   EPERM, ENOSYS or KILL. The filter is there before exec, so libc meets it at
//   its start, as in a container.
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CODE_MAX = 64, FENCE_RSEQ = 1 << 7 };

static struct sock_filter code[CODE_MAX];
static unsigned short used;

static void add(struct sock_filter one) {
  code[used++] = one;
}

static unsigned action_of(const char *what) {
  if (strcmp(what, "KILL") == 0)
    return SECCOMP_RET_KILL_PROCESS;
  return SECCOMP_RET_ERRNO |
         (unsigned)(strcmp(what, "EPERM") == 0 ? EPERM : ENOSYS);
}

static void load(size_t offset) {
  add((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offset));
}

static void skip_unless(unsigned value, unsigned char instructions) {
  add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0,
                                   instructions));
}

static void refuse(const char *rule) {
  const char *what = strchr(rule, '=') + 1;
  load(offsetof(struct seccomp_data, nr));
  if (strncmp(rule, "rseq=", 5) == 0) {
    skip_unless(SYS_rseq, 1);
  } else if (strncmp(rule, "fence=", 6) == 0) {
    skip_unless(SYS_membarrier, 3);
    load(offsetof(struct seccomp_data, args));
    skip_unless(FENCE_RSEQ, 1);
  } else {
    skip_unless(SYS_membarrier, 1);
  }
  add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action_of(what)));
}

int main(int argc, char **argv) {
  int i = 1;
  for (; i < argc && strcmp(argv[i], "--") != 0; i++)
    refuse(argv[i]);
  add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  struct sock_fprog filter = {used, code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) {
    perror("refuse: seccomp");
    return 2;
  }
  execvp(argv[i + 1], argv + i + 1);
  perror(argv[i + 1]);
  return 2;
}

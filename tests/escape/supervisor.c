/* Attacks on a supervisor, run in a guest. Each says what came of it, and whether its means were there. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuse.h"

static const char *why(int failed) { return failed ? strerror(errno) : "ok"; }

static int to_notify(void) {
  struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "/run/host/notify"};
  int s = socket(AF_UNIX, SOCK_DGRAM, 0);
  if (connect(s, (void *)&a, sizeof a)) {
    printf("connect: %s\n", strerror(errno));
    exit(0);
  }
  return s;
}

/* Sends `count` copies of a descriptor beside a message. */
static int send_fds(int s, int fd, int count) {
  char space[CMSG_SPACE(253 * sizeof(int))] = {0};
  struct iovec data = {"FDSTORE=1", 9};
  struct msghdr m = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = space,
                     .msg_controllen = CMSG_SPACE(count * sizeof(int))};
  struct cmsghdr *c = CMSG_FIRSTHDR(&m);
  c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(count * sizeof(int));
  for (int i = 0; i < count; i++) ((int *)CMSG_DATA(c))[i] = fd;
  return sendmsg(s, &m, MSG_DONTWAIT) < 0;
}

static int receive_fd(int s) {
  char data[64], space[CMSG_SPACE(sizeof(int))];
  struct iovec d = {data, sizeof data};
  struct msghdr m = {.msg_iov = &d, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
  if (recvmsg(s, &m, 0) < 0 || !CMSG_FIRSTHDR(&m)) return -1;
  return *(int *)CMSG_DATA(CMSG_FIRSTHDR(&m));
}

static void attributes(struct fuse_attr *a, int node) {
  a->ino = node, a->size = 4096, a->nlink = 1, a->blksize = 4096, a->mode = node == 1 ? 040777 : 0100666;
}

/* A file system that never answers FLUSH. */
static void *serve(void *unused) {
  static char request[1 << 17];
  while (read(fuse, request, sizeof request) > 0 || errno == ENOENT) {
    struct fuse_in_header *h = (void *)request;
    struct fuse_attr_out got = {0};
    struct fuse_entry_out entry = {.nodeid = 2};
    struct fuse_open_out opened = {.fh = 1};
    switch (h->opcode) {
    case FUSE_FLUSH: break;
    case FUSE_FORGET: case FUSE_BATCH_FORGET: break;
    case FUSE_INIT: answer(h->unique, 0, &fuse_init, sizeof fuse_init); break;
    case FUSE_GETATTR: attributes(&got.attr, h->nodeid); answer(h->unique, 0, &got, sizeof got); break;
    case FUSE_LOOKUP: attributes(&entry.attr, 2); answer(h->unique, 0, &entry, sizeof entry); break;
    case FUSE_OPEN: answer(h->unique, 0, &opened, sizeof opened); break;
    default: answer(h->unique, -ENOSYS, "", 0);
    }
  }
  return unused;
}

static int fuse_main(void) {
  pthread_t server;
  if (mount_fuse("/mnt")) return 0;
  pthread_create(&server, NULL, serve, NULL);
  int file = open("/mnt/x", O_RDONLY);
  printf("open: %s\n", why(file < 0));
  /* The means: somebody who takes it and closes it hangs. */
  int pair[2], status;
  socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
  pid_t victim = fork();
  if (!victim) {
    int taken = receive_fd(pair[0]);
    close(taken);
    _exit(0);
  }
  printf("means sent: %s\n", why(send_fds(pair[1], file, 1)));
  sleep(2);
  printf("means: %s\n", waitpid(victim, &status, WNOHANG) == 0 ? "its taker hangs" : "its taker goes on");
  kill(victim, SIGKILL);
  printf("sent: %s\n", why(send_fds(to_notify(), file, 1)));
  fflush(stdout);
  /* Stays: the file is to be open, and its file system to be served. */
  return pause();
}

static int fds_main(void) {
  int null = open("/dev/null", O_RDONLY), sent = 0, pair[2];
  socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
  printf("means: %s\n", why(send_fds(pair[0], null, 20)));
  int s = to_notify();
  for (int i = 0; i < 200; i++) sent += !send_fds(s, null, 20);
  return printf("sent: %d of 200\n", sent);
}

/* As many messages as the socket takes at once, without waiting; then how many it has taken. */
static int flood_main(void) {
  char text[2000];
  int s = to_notify(), taken = 0;
  for (int i = 0; i < 20000; i++) {
    int length = snprintf(text, sizeof text, "READY=1\nSTATUS=flood %d\nMAINPID=1\n", i);
    memset(text + length, 's', sizeof text - length);
    taken += send(s, text, sizeof text, MSG_DONTWAIT) > 0;
    usleep(50);
  }
  return printf("taken: %d of 20000\n", taken);
}

static int depth_main(int levels) {
  char name[201] = {0};
  memset(name, 'd', 200);
  for (int i = 0; i < levels; i++)
    if (mkdir(name, 0755) || chdir(name)) return printf("depth %d: %s\n", i, strerror(errno));
  return printf("depth %d: ok\n", levels);
}

static int bpf(int command, union bpf_attr *a) { return syscall(SYS_bpf, command, a, sizeof *a); }

static int bpf_main(void) {
  struct bpf_insn allow[2] = {{.code = 0xb7, .imm = 1}, {.code = 0x95}};
  union bpf_attr a = {.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE, .insns = (unsigned long)allow, .insn_cnt = 2,
                      .license = (unsigned long)"GPL"};
  int program = bpf(BPF_PROG_LOAD, &a), group = open("/sys/fs/cgroup", O_RDONLY | O_DIRECTORY);
  a = (union bpf_attr){.target_fd = group, .attach_bpf_fd = program, .attach_type = BPF_CGROUP_DEVICE,
                       .attach_flags = BPF_F_ALLOW_MULTI};
  printf("means attach: %s\n", why(bpf(BPF_PROG_ATTACH, &a)));
  a = (union bpf_attr){.target_fd = group, .attach_bpf_fd = program, .attach_type = BPF_CGROUP_DEVICE};
  printf("means detach: %s\n", why(bpf(BPF_PROG_DETACH, &a)));
  unsigned ids[8] = {0};
  a = (union bpf_attr){.query = {.target_fd = group, .attach_type = BPF_CGROUP_DEVICE,
                                 .prog_ids = (unsigned long)ids, .prog_cnt = 8}};
  int asked = bpf(BPF_PROG_QUERY, &a);
  printf("programs: %s %u\n", why(asked), a.query.prog_cnt);
  for (unsigned i = 0; i < a.query.prog_cnt; i++) {
    union bpf_attr b = {.prog_id = ids[i]};
    int fd = bpf(BPF_PROG_GET_FD_BY_ID, &b);
    b = (union bpf_attr){.target_fd = group, .attach_bpf_fd = fd, .attach_type = BPF_CGROUP_DEVICE};
    printf("detach: %s\n", why(bpf(BPF_PROG_DETACH, &b)));
  }
  unlink("/root/null-block");
  return printf("node: %s\n", why(mknod("/root/null-block", S_IFBLK | 0600, makedev(7, 0))));
}

/* What a process has from who started it. */
static int born_main(void) {
  struct rlimit files, core, busy;
  struct sigaction child;
  cpu_set_t all;
  getrlimit(RLIMIT_NOFILE, &files);
  getrlimit(RLIMIT_FSIZE, &core), getrlimit(RLIMIT_RTTIME, &busy);
  sigaction(SIGCHLD, NULL, &child);
  sched_getaffinity(0, sizeof all, &all);
  mode_t mask = umask(0);
  return printf("umask %03o nofile %llu fsize %lld rttime %lld merge %d nice %d cpus %d policy %d slack %d child %s\n", mask,
                (unsigned long long)files.rlim_cur, (long long)core.rlim_cur, (long long)busy.rlim_cur,
                prctl(68 /* PR_GET_MEMORY_MERGE */, 0, 0, 0, 0), getpriority(PRIO_PROCESS, 0), CPU_COUNT(&all), sched_getscheduler(0), prctl(PR_GET_TIMERSLACK),
                child.sa_handler == SIG_IGN ? "ignored" : "default");
}

/* Runs what follows with everything set that a caller can set. */
static int odd_main(char **words) {
  struct rlimit files, size, busy;
  cpu_set_t first;
  CPU_ZERO(&first);
  CPU_SET(0, &first);
  umask(077);
  /* The soft ones: not every root may raise a hard one again. */
  getrlimit(RLIMIT_NOFILE, &files), getrlimit(RLIMIT_FSIZE, &size);
  getrlimit(RLIMIT_RTTIME, &busy);
  files.rlim_cur = 128, size.rlim_cur = 1 << 26, busy.rlim_cur = 1000000;
  setrlimit(RLIMIT_RTTIME, &busy);
  prctl(67 /* PR_SET_MEMORY_MERGE */, 1, 0, 0, 0);
  setrlimit(RLIMIT_NOFILE, &files), setrlimit(RLIMIT_FSIZE, &size);
  setpriority(PRIO_PROCESS, 0, 7);
  sched_setaffinity(0, sizeof first, &first);
  prctl(PR_SET_TIMERSLACK, 1000000);
  signal(SIGCHLD, SIG_IGN);
  signal(SIGHUP, SIG_IGN);
  sigset_t set;
  sigfillset(&set);
  sigprocmask(SIG_BLOCK, &set, NULL);
  execv(words[0], words);
  return 1;
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  const char *verb = argc > 1 ? argv[1] : "";
  if (!strcmp(verb, "fuse")) return fuse_main() < 0;
  if (!strcmp(verb, "fds")) return fds_main() < 0;
  if (!strcmp(verb, "flood")) return flood_main() < 0;
  if (!strcmp(verb, "bpf")) return bpf_main() < 0;
  if (!strcmp(verb, "born")) return born_main() < 0;
  if (!strcmp(verb, "odd")) return odd_main(argv + 2);
  if (!strcmp(verb, "depth")) return chdir(argv[2]) ? printf("chdir: %s\n", strerror(errno)), 0 : depth_main(atoi(argv[3])) < 0;
  return 2;
}

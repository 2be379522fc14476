/* A guest that takes as much as it can get of what the kernel has. Each says how much that was, and stays
   with it until it is killed where that is asked for. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static const char *why(int failed) { return failed ? strerror(errno) : "ok"; }

static int inotify_main(int most) {
  int got = 0;
  while (got < most && inotify_init1(0) >= 0) got++;
  return printf("took %d: %s\n", got, why(got < most));
}

static int keys_main(int most) {
  char name[32];
  int got = 0;
  for (; got < most; got++) {
    snprintf(name, sizeof name, "flood-%d", got);
    if (syscall(SYS_add_key, "user", name, "x", 1, -4 /* KEY_SPEC_USER_KEYRING */) < 0) break;
  }
  return printf("took %d: %s\n", got, why(got < most));
}

static int nodes_main(const char *dir, int most) {
  int got = 0;
  if (chdir(dir)) return printf("chdir: %s\n", why(1));
  for (; got < most; got++) {
    char name[32];
    snprintf(name, sizeof name, "node-%d", got);
    if (mknod(name, S_IFREG | 0600, 0)) break;
  }
  return printf("took %d: %s\n", got, why(got < most));
}

/* Bytes in attributes of files on a tmpfs. */
static int attributes_main(const char *dir, int most) {
  static char value[60000];
  int got = 0;
  if (chdir(dir)) return printf("chdir: %s\n", why(1));
  for (; got < most; got++) {
    char name[32];
    snprintf(name, sizeof name, "of-%d", got / 64);
    if (got % 64 == 0 && mknod(name, S_IFREG | 0600, 0)) break;
    char key[32];
    snprintf(key, sizeof key, "user.%d", got % 64);
    if (setxattr(name, key, value, sizeof value, 0)) break;
  }
  return printf("took %d: %s\n", got, why(got < most));
}

static int groups_main(const char *dir, int most) {
  int got = 0;
  if (chdir(dir)) return printf("chdir: %s\n", why(1));
  for (; got < most; got++) {
    char name[32];
    snprintf(name, sizeof name, "group-%d", got);
    if (mkdir(name, 0755)) break;
  }
  return printf("took %d: %s\n", got, why(got < most));
}

/* Twice as many each time: a tree of mounts bound into itself. */
static int mounts_main(void) {
  mkdir("/tmp/many", 0755);
  if (mount("many", "/tmp/many", "tmpfs", 0, "") || mount("", "/tmp/many", "", MS_PRIVATE, 0)) return printf("many: %s\n", why(1));
  for (int n = 0; n < 24; n++) {
    char name[32];
    snprintf(name, sizeof name, "/tmp/many/%d", n);
    mkdir(name, 0755);
  }
  int doubled = 0;
  for (; doubled < 24; doubled++) {
    char name[32];
    snprintf(name, sizeof name, "/tmp/many/%d", doubled);
    if (mount("/tmp/many", name, "", MS_BIND | MS_REC, 0)) break;
  }
  return printf("took %d: %s\n", doubled, why(doubled < 24));
}

static int terminals_main(int most) {
  int got = 0;
  struct rlimit files = {most + 100, most + 100};
  setrlimit(RLIMIT_NOFILE, &files);
  while (got < most && open("/dev/ptmx", O_RDWR | O_NOCTTY) >= 0) got++;
  return printf("took %d: %s\n", got, why(got < most));
}

static int processes_main(int most) {
  int got = 0;
  for (; got < most; got++) {
    pid_t child = fork();
    if (child < 0) break;
    if (!child) pause();
  }
  return printf("took %d: %s\n", got, why(got < most));
}

int main(int argc, char **argv) {
  const char *verb = argc > 1 ? argv[1] : "";
  int most = argc > 2 ? atoi(argv[argc - 1]) : 0;
  if (!strcmp(verb, "inotify")) inotify_main(most);
  else if (!strcmp(verb, "keys")) keys_main(most);
  else if (!strcmp(verb, "nodes")) nodes_main(argv[2], most);
  else if (!strcmp(verb, "attributes")) attributes_main(argv[2], most);
  else if (!strcmp(verb, "groups")) groups_main(argv[2], most);
  else if (!strcmp(verb, "mounts")) mounts_main();
  else if (!strcmp(verb, "terminals")) terminals_main(most);
  else if (!strcmp(verb, "processes")) processes_main(most);
  else return 2;
  fflush(stdout);
  if (getenv("STAY")) pause();
  return 0;
}

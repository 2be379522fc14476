"""Makes a random tree of files in the current directory, or describes the one that is there.

    tree.py make SEED DEPTH [layered]  deterministic; what the maker may not do (mknod, trusted.*) is left undone
    tree.py describe         a line for each file: its path in hexadecimal, and all that it is

What paths are too long for is reached by descriptors, one a level.
"""
import errno, fcntl, os, random, resource, socket, stat, struct, sys

FLAGS = {"append": 0x20, "immutable": 0x10, "nodump": 0x40}  # linux/fs.h
GETFLAGS, SETFLAGS = 0x80086601, 0x40086602
DEEP = 4000


def attempt(call, *args, **more):
    """False where this maker, or this file system, may not."""
    try:
        call(*args, **more)
        return True
    except OSError as e:
        if e.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.EACCES, errno.EINVAL, errno.ENOTTY):
            return False
        raise


class Maker:
    def __init__(self, seed):
        self.r = random.Random(seed)
        self.dirs, self.files, self.made = [b"opt/rand"], [], []

    def name(self, n):
        kinds = [b"f%d", b"new\nline%d", b"caf\xe9%d", b" space %d ", b"-dash%d", b"back\\slash%d", b".wh.f%d",
                 b'quote"\'%d', b"\xff\xfe%d", b"tab\t%d", b"%%25=%d", b"u\xcc\x88%d"]
        name = self.r.choice(kinds) % n
        return name + b"x" * (255 - len(name)) if self.r.random() < 0.08 else name

    def make(self):
        os.makedirs(b"opt/rand")
        self.made.append(b"opt/rand")
        for n in range(140):
            path = os.path.join(self.r.choice(self.dirs), self.name(n))
            kinds = ["file", "sparse", "link", "symlink", "fifo", "dir", "dir"] * 3
            kind = self.r.choice(kinds + ["socket", "device", "whiteout", "link", "file"])
            if getattr(self, kind)(path) is not False:
                self.made.append(path)
        self.deep()
        for path in self.made:
            self.attributes(path)
        for path in sorted(self.made, key=len, reverse=True):
            self.time(path)
        for path in self.r.sample(self.made, 8):
            self.flag(path)

    def file(self, path):
        with open(path, "wb") as f:
            f.write(self.r.randbytes(self.r.choice([0, 1, 511, 512, 513, 4096, 70000])))
        self.files.append(path)

    def sparse(self, path):
        block = 1 << 16
        with open(path, "wb") as f:
            size = self.r.choice([block, 5 * block, 40 * block + 17])
            f.truncate(size)
            for at in self.r.sample(range(0, size, block), self.r.choice([0, 1, 1, 2]) % (size // block + 1)):
                f.seek(at)
                f.write(self.r.randbytes(min(block, size - at)))
        self.files.append(path)

    def link(self, path):
        if not self.files:
            return False
        os.link(self.r.choice(self.files), path, follow_symlinks=False)
        return False  # its attributes are the first name's

    def symlink(self, path):
        os.symlink(self.r.choice([b"f1", b"/etc/passwd", b"../../../..", b"caf\xe9", b"t" * 4095, b"new\nline"]), path)
        self.files.append(path)

    def fifo(self, path):
        os.mkfifo(path)
        self.files.append(path)

    def socket(self, path):
        # bind(2) takes no path so long.
        os.mknod(path, stat.S_IFSOCK | 0o600)
        self.files.append(path)

    def device(self, path):
        if not attempt(os.mknod, path, self.r.choice([stat.S_IFCHR, stat.S_IFBLK]) | 0o660, os.makedev(7, 3)):
            return False
        self.files.append(path)

    def whiteout(self, path):
        if not attempt(os.mknod, path, stat.S_IFCHR, 0):
            return False
        self.files.append(path)

    def dir(self, path):
        os.mkdir(path)
        self.dirs.append(path)

    def deep(self):
        resource.setrlimit(resource.RLIMIT_NOFILE, (DEEP * 2, DEEP * 2)) if os.geteuid() == 0 else None
        at = os.open(b"opt/rand", os.O_RDONLY)
        for _ in range(int(sys.argv[3])):
            os.mkdir(b"d", dir_fd=at)
            below = os.open(b"d", os.O_RDONLY, dir_fd=at)
            os.close(at)
            at = below
        os.close(os.open(b"bottom", os.O_CREAT | os.O_WRONLY, dir_fd=at))
        os.link(b"bottom", b"again", src_dir_fd=at, dst_dir_fd=at)
        os.close(at)

    def attributes(self, path):
        mode = os.lstat(path).st_mode
        ids = [0, 0, 0, 33, 1000, 65534]
        os.chown(path, self.r.choice(ids), self.r.choice(ids), follow_symlinks=False)
        regular, directory = stat.S_ISREG(mode), stat.S_ISDIR(mode)
        if not stat.S_ISLNK(mode):
            os.chmod(path, self.r.choice([0, 0o400, 0o644, 0o755, 0o4755, 0o6755, 0o1777, 0o2750]))
        xattr = lambda name, value: attempt(os.setxattr, path, name, value, follow_symlinks=False)
        values = [b"", b"x", b"with\nnewline=and\x01more", b"\0\xff", b"v" * 900]
        if (regular or directory) and self.r.random() < 0.4:
            for name in self.r.sample([b"user.note", b"user.a=b%c", b"user.caf\xe9", b"user.x y", b"user.%25"], 2):
                xattr(name, self.r.choice(values))
        if self.r.random() < 0.2:
            xattr(b"trusted.note", self.r.choice(values))
        if directory and self.r.random() < 0.1:
            xattr(b"trusted.overlay.opaque", b"y")
        if regular and self.r.random() < 0.2:
            xattr(b"security.capability", struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0))
        acl = struct.pack("<IHHIHHIHHIHHIHHI", 2, 1, 7, 2**32 - 1, 2, 5, 1234, 4, 4, 2**32 - 1, 16, 7, 2**32 - 1,
                          32, 0, 2**32 - 1)
        if (regular or directory) and self.r.random() < 0.2:
            xattr(b"system.posix_acl_access", acl)
        if directory and self.r.random() < 0.2:
            xattr(b"system.posix_acl_default", acl)

    def time(self, path):
        seconds = self.r.choice([-1500000000, -1, 0, 1, 1234567890, 2**32 + 5])
        nanos = self.r.choice([0, 0, 1, 500000000, 999999999])
        os.utime(path, ns=(0, seconds * 10**9 + nanos), follow_symlinks=False)

    def flag(self, path):
        mode = os.lstat(path).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            return
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except PermissionError:
            return
        # Of a layer that is not written to any more overlayfs shows neither of the other two.
        names = ["nodump"] if "layered" in sys.argv else sorted(FLAGS)
        flags = FLAGS[self.r.choice(names)] | FLAGS[self.r.choice(names)]

        def change():
            now = struct.unpack("l", fcntl.ioctl(fd, GETFLAGS, b"\0" * 8))[0]
            fcntl.ioctl(fd, SETFLAGS, struct.pack("l", now | flags))
        attempt(change)
        os.close(fd)


def describe():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(DEEP * 2, hard) if os.geteuid() == 0 else hard,) * 2)
    links = {}
    # Directories still to be read: a descriptor of each, and its path.
    todo = [(os.open(b"opt/rand", os.O_RDONLY), b"")]
    line(todo[0][0], b".", b"", links)
    while todo:
        fd, path = todo.pop()
        for name in sorted(os.fsencode(name) for name in os.listdir(fd)):
            below = path + b"/" + name
            if line(fd, name, below, links):
                todo.append((os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=fd), below))
        os.close(fd)
    for (names, text) in links.values():
        for name in names:
            print(shown(name), text, "names", shown(sorted(names)[0]), len(names))


def shown(path):
    """In hexadecimal; the middle of one that is as long as the tree is deep does not matter."""
    return (path if len(path) < 3000 else path[:500] + b"%d" % len(path) + path[-100:]).hex()


def line(dir_fd, name, path, links):
    found = os.lstat(name, dir_fd=dir_fd)
    kind, mode = stat.S_IFMT(found.st_mode), stat.S_IMODE(found.st_mode)
    at = b"/proc/self/fd/%d/" % dir_fd + name
    text = "%o %o %d:%d %d" % (kind, mode, found.st_uid, found.st_gid, found.st_mtime_ns)
    if kind == stat.S_IFREG:
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=dir_fd)
        contents = os.read(fd, 1 << 24)
        import hashlib
        text += " size %d %s" % (found.st_size, hashlib.sha256(contents).hexdigest()[:16])
        text += " holes" if found.st_blocks * 512 + (1 << 16) <= found.st_size else ""
    elif kind == stat.S_IFDIR:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=dir_fd)
    elif kind == stat.S_IFLNK:
        text += " -> " + os.readlink(name, dir_fd=dir_fd).hex()
    else:
        text += " device %d" % found.st_rdev
    if kind in (stat.S_IFREG, stat.S_IFDIR):
        try:
            flags = struct.unpack("l", fcntl.ioctl(fd, GETFLAGS, b"\0" * 8))[0]
        except OSError:
            flags = 0
        os.close(fd)
        text += " flags " + ",".join(name for (name, bit) in sorted(FLAGS.items()) if flags & bit)
    for attribute in sorted(os.fsencode(name) for name in os.listxattr(at, follow_symlinks=False)):
        value = os.getxattr(at, attribute, follow_symlinks=False)
        text += " %s=%s" % (attribute.hex(), value.hex())
    if kind == stat.S_IFDIR:
        print(shown(path), text)
        return True
    links.setdefault((found.st_dev, found.st_ino), ([], text))[0].append(path)
    return False


if sys.argv[1] == "make":
    os.umask(0)
    Maker(int(sys.argv[2])).make()
else:
    describe()

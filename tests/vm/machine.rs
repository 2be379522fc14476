//! A whole machine in qemu: Debian's own kernel, cgroup v2 with all controllers, real reboots.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::rootfs;
use crate::support::pace::{Clock, Deadline};
use crate::support::{Outcome, command};

/// A booted machine. Its disk is thrown away when it is dropped.
pub struct Machine {
    qemu: Child,
    agent: BufReader<UnixStream>,
    work: PathBuf,
}

/// How long it may take to boot: seconds on an idle computer, without KVM and on a busy one more.
const BOOT_LIMIT: Duration = Duration::from_secs(240);

/// Options of the kernel: quiet, since every character goes through an emulated serial line.
const COMMAND_LINE: &str =
    "root=/dev/vda rw quiet loglevel=3 console=ttyS0 systemd.show_status=0 mitigations=off panic=-1";

impl Machine {
    /// Boots one that finds the files of `payload` below /mnt, and those of `payload/images` where
    /// lxm keeps its images.
    pub fn boot(payload: &Path) -> Self {
        let parts = parts().unwrap_or_else(|e| panic!("{e}"));
        let work = Path::new("/var/tmp").join(format!("lxmtest-vm-{:x}", std::process::id()));
        fs::create_dir_all(&work).expect("make the machine's directory");
        let disk = work.join("payload.ext4");
        make_disk(payload, &disk, "3G").unwrap_or_else(|e| panic!("{e}"));
        let socket = work.join("agent");
        let drive = |file: &Path| format!("file={},format=raw,if=virtio,snapshot=on", file.display());
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-accel", "tcg,thread=multi", "-smp", "2", "-cpu", "max", "-m", "3072"]);
        qemu.args(["-nodefaults", "-no-user-config", "-display", "none"]);
        qemu.arg("-kernel").arg(parts.join("vmlinuz")).arg("-initrd").arg(parts.join("initrd"));
        qemu.args(["-append", COMMAND_LINE]);
        qemu.args(["-drive", &drive(&parts.join("disk.ext4")), "-drive", &drive(&disk)]);
        qemu.args(["-chardev", &format!("file,id=console,path={}", work.join("console.log").display())]);
        qemu.args(["-chardev", &format!("socket,id=agent,path={},server=on,wait=off", socket.display())]);
        qemu.args(["-serial", "chardev:console", "-serial", "chardev:agent"]);
        qemu.env("TMPDIR", "/var/tmp").stdin(Stdio::null()).stdout(Stdio::null());
        qemu.stderr(File::create(work.join("qemu.log")).expect("make a log"));
        let qemu = qemu.spawn().expect("run qemu-system-x86_64");
        let agent = connect(&socket);
        let mut machine = Machine { qemu, agent, work };
        machine.wait_for_agent();
        machine
    }

    fn wait_for_agent(&mut self) {
        let line = self.line(BOOT_LIMIT);
        assert_eq!(line, "ready", "{}", self.console());
    }

    #[track_caller]
    fn line(&mut self, limit: Duration) -> String {
        let deadline = Deadline::after(limit);
        let mut line = Vec::new();
        loop {
            self.agent.get_ref().set_read_timeout(Some(deadline.remaining())).expect("set a time limit");
            // What came before the time was over stays in `line`.
            match self.agent.read_until(b'\n', &mut line) {
                Ok(1..) => return String::from_utf8_lossy(&line).trim().to_owned(),
                Err(e) if e.kind() == ErrorKind::WouldBlock && !deadline.has_passed() => {}
                other => panic!("the machine does not answer within {limit:?} ({other:?})\n{}", self.console()),
            }
        }
    }

    /// Runs a shell script in the machine, as root.
    #[track_caller]
    pub fn try_shell(&mut self, script: &str, limit: Duration) -> Outcome {
        let clock = Clock::start();
        self.send(script);
        let line = self.line(limit);
        let fields: Vec<&str> = line.split(' ').collect();
        let &[status, stdout, stderr] = fields.as_slice() else { panic!("the agent says `{line}`") };
        Outcome {
            command: script.to_owned(),
            status: status.parse().expect("a status is a number"),
            stdout: decode(stdout),
            stderr: decode(stderr),
            took: clock.elapsed(),
        }
    }

    fn send(&mut self, script: &str) {
        let line = hex(script.as_bytes()) + "\n";
        self.agent.get_mut().write_all(line.as_bytes()).expect("write to the agent");
    }

    /// Runs a shell script that must succeed; gives its output without the last newline.
    #[track_caller]
    pub fn shell(&mut self, script: &str) -> String {
        self.try_shell(script, Duration::from_secs(240)).ok().line().to_owned()
    }

    /// Restarts the machine as its admin would, and waits until it is up again.
    pub fn reboot(&mut self) {
        self.send("systemctl reboot");
        // The agent may or may not get to answer before it is stopped itself.
        let limit = Duration::from_secs(300);
        let deadline = Deadline::after(limit);
        while self.line(limit) != "ready" {
            assert!(!deadline.has_passed(), "the machine does not boot again\n{}", self.console());
        }
    }

    /// Shuts it down in order.
    pub fn power_off(mut self) {
        self.send("systemctl poweroff");
        let ended = command::wait(&mut self.qemu, Duration::from_secs(240));
        assert!(ended.is_some(), "the machine does not shut down\n{}", self.console());
    }

    /// What the machine has shown on its console.
    fn console(&self) -> String {
        let bytes = fs::read(self.work.join("console.log")).unwrap_or_default();
        let qemu = fs::read_to_string(self.work.join("qemu.log")).unwrap_or_default();
        format!("--- console\n{}\n--- qemu\n{qemu}", String::from_utf8_lossy(&bytes))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.qemu.kill().ok();
        self.qemu.wait().ok();
        fs::remove_dir_all(&self.work).ok();
    }
}

fn connect(socket: &Path) -> BufReader<UnixStream> {
    let deadline = Deadline::after(Duration::from_secs(20));
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return BufReader::new(stream),
            Err(e) => assert!(!deadline.has_passed(), "qemu does not start: {e}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The reverse of `od -An -tx1 | tr -d ' \n'`, after the agent's leading `x`.
fn decode(text: &str) -> String {
    let digits = text.strip_prefix('x').expect("an output begins with x").as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("hex"), 16).expect("hex");
    let bytes: Vec<u8> = digits.chunks(2).map(byte).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The directory of kernel, initrd and disk image, made unless they are there.
fn parts() -> Result<PathBuf, String> {
    let packages = format!("{},udev,apparmor,openssh-server,linux-image-cloud-amd64", rootfs::PACKAGES);
    let recipe = format!("2 {packages} {INIT} {AGENT} {AGENT_UNIT} {MODULES:?}");
    rootfs::cached("vm", &recipe, |dir| {
        let root = dir.join("rootfs");
        rootfs::debootstrap("bookworm", &packages, &root)?;
        furnish(&root).map_err(|e| format!("furnish the machine: {e}"))?;
        make_initrd(&root, dir)?;
        make_disk(&root, &dir.join("disk.ext4"), "8G")?;
        fs::remove_dir_all(&root).map_err(|e| format!("remove {}: {e}", root.display()))
    })
}

/// Makes a sparse disk image of a tree.
fn make_disk(tree: &Path, disk: &Path, size: &str) -> Result<(), String> {
    let mut truncate = Command::new("truncate");
    truncate.args(["-s", size]).arg(disk);
    rootfs::run(truncate)?;
    let mut mkfs = Command::new("mkfs.ext4");
    mkfs.args(["-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1", "-d"]).arg(tree).arg(disk);
    rootfs::run(mkfs)
}

/// What loads the disk's driver and switches to it, in place of Debian's large one.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for module in MODULES; do /bin/busybox insmod /$module.ko; done
while [ ! -b /dev/vda ]; do /bin/busybox sleep 0.02; done
/bin/busybox mount -t ext4 /dev/vda /root
exec /bin/busybox switch_root /root /sbin/init
";

/// In the order in which they need each other.
const MODULES: [&str; 6] = [
    "virtio/virtio_ring",
    "virtio/virtio",
    "virtio/virtio_pci_modern_dev",
    "virtio/virtio_pci_legacy_dev",
    "virtio/virtio_pci",
    "block/virtio_blk",
];

/// Runs what comes over the second serial line: a script in hex a line; status and outputs back.
const AGENT: &str = r#"#!/bin/bash
exec </dev/ttyS1 >/dev/ttyS1
stty raw -echo
echo ready
while read -r line; do
    script=$(printf "$(sed 's/../\\x&/g' <<<"$line")")
    bash -c "$script" >/run/agent.out 2>/run/agent.err </dev/null
    status=$?
    show() { echo -n x; od -v -An -tx1 "$1" | tr -d ' \n'; }
    echo "$status $(show /run/agent.out) $(show /run/agent.err)"
done
"#;

const AGENT_UNIT: &str = "[Unit]
Description=Agent of the tests
After=basic.target
[Service]
Type=exec
ExecStart=/usr/local/sbin/lxm-test-agent
Environment=HOME=/root LC_ALL=C.UTF-8
KillMode=process
[Install]
WantedBy=multi-user.target
";

fn furnish(root: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let agent = root.join("usr/local/sbin/lxm-test-agent");
    fs::write(&agent, AGENT)?;
    fs::set_permissions(&agent, fs::Permissions::from_mode(0o755))?;
    let units = root.join("etc/systemd/system");
    fs::write(units.join("lxm-test-agent.service"), AGENT_UNIT)?;
    fs::create_dir_all(units.join("multi-user.target.wants"))?;
    symlink("../lxm-test-agent.service", units.join("multi-user.target.wants/lxm-test-agent.service"))?;
    for unit in ["apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "dpkg-db-backup.timer"] {
        symlink("/dev/null", units.join(unit))?;
    }
    fs::create_dir_all(root.join("var/log/journal"))?;
    fs::write(root.join("etc/hostname"), "testvm\n")?;
    fs::create_dir_all(root.join("var/cache/lxm/images"))?;
    fs::write(root.join("etc/fstab"), "/dev/vdb /mnt ext4 rw 0 0\n/mnt/images /var/cache/lxm/images none bind 0 0\n")
}

fn make_initrd(root: &Path, dir: &Path) -> Result<(), String> {
    let script = "set -e
kernel=$(ls $root/boot/vmlinuz-*)
cp $kernel $dir/vmlinuz
mkdir -p $dir/initrd.d/bin $dir/initrd.d/dev $dir/initrd.d/root
cd $dir/initrd.d
cp $root/bin/busybox bin/
for module in $modules; do cp $root/lib/modules/*/kernel/drivers/$module.ko .; done
printf %s \"$init\" >init
chmod +x init
find . | $root/bin/busybox cpio -o -H newc | gzip -1 >$dir/initrd
rm -r $dir/initrd.d";
    let names: Vec<&str> = MODULES.iter().filter_map(|path| path.rsplit('/').next()).collect();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).env("root", root).env("dir", dir).env("modules", MODULES.join(" "));
    command.env("init", INIT.replace("MODULES", &names.join(" ")));
    rootfs::run(command)
}

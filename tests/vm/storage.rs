//! Claims about storage that take a kernel with project quotas.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::machine::Machine;
use crate::support::command::run;

/// Puts what [`quotas`] needs into the directory that the machine sees as /mnt.
pub fn pack(payload: &Path) {
    for (kind, mkfs) in [("ext4", &["mkfs.ext4", "-q", "-O", "project,quota"][..]), ("xfs", &["mkfs.xfs", "-q"])] {
        let file = payload.join(format!("{kind}.img"));
        fs::File::create(&file).unwrap().set_len(400 << 20).unwrap();
        run(mkfs[0], &[&mkfs[1..], &[file.to_str().unwrap()]].concat()).ok();
    }
}

/// A container's `storage.size` is held by the project quotas of ext4 and xfs, whether it is a full copy
/// or layered on its image.
pub fn quotas(machine: &mut Machine) {
    for kind in ["ext4", "xfs"] {
        machine
            .shell(&format!("cp /mnt/{kind}.img /var/tmp/ && mount -o loop,prjquota /var/tmp/{kind}.img /var/lib/lxm"));
        for storage in ["dir", "overlay"] {
            let script = format!(
                "fill() {{ lxm attach web -- dd if=/dev/zero of=/$1 bs=1M count=40 2>&1; }}
                set -ex
                lxm create web -t busybox --network none --storage {storage}
                lxm config set web storage.size 24MiB
                lxm start web
                ! fill one
                lxm attach web -- rm /one
                lxm config set web storage.size 80MiB
                fill one
                ! fill two
                lxm attach web -- rm /two
                # What is restored has the same limit, and a clone has none of its own.
                lxm stop -k web
                lxm snapshot create web before
                lxm snapshot restore web before
                lxm start web
                ! {{ fill two && fill three; }}
                lxm copy web web2
                lxm stop -k web
                lxm config unset web2 storage.size
                lxm start web2
                lxm attach web2 -- rm -f /one /two /three
                lxm attach web2 -- dd if=/dev/zero of=/big bs=1M count=100
                lxm destroy -f web2
                lxm destroy web"
            );
            machine.try_shell(&script, Duration::from_secs(240)).ok();
        }
        machine.shell("umount /var/lib/lxm");
    }
}

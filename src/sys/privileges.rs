//! Giving up what a process of ours does not need any more.

use caps::{CapSet, Capability, CapsHashSet};

use super::seccomp::{self, Architecture, BpfProgram, Verdict};
use crate::error::{Context, Error, Result};

fn failed(e: caps::errors::CapsError) -> Error {
    Error::failed(e.to_string())
}

/// Takes every capability but `kept` from the bounding set: nothing that is executed has them again.
pub(crate) fn bound(kept: &[Capability]) -> Result<()> {
    let drop = || -> Result<()> {
        for capability in caps::read(None, CapSet::Bounding).map_err(failed)? {
            if !kept.contains(&capability) {
                caps::drop(None, CapSet::Bounding, capability).map_err(failed)?;
            }
        }
        Ok(())
    };
    drop().context(|| "bound the capabilities")
}

/// Has `kept` from now on and no other capability, as far as they are had now.
pub(crate) fn keep(kept: &[Capability]) -> Result<()> {
    let keep = || -> Result<()> {
        let permitted = caps::read(None, CapSet::Permitted).map_err(failed)?;
        let kept: CapsHashSet = kept.iter().copied().filter(|capability| permitted.contains(capability)).collect();
        caps::clear(None, CapSet::Inheritable).map_err(failed)?;
        // The effective set is a subset of the permitted one: shrink the outer last.
        caps::set(None, CapSet::Effective, &kept).map_err(failed)?;
        caps::set(None, CapSet::Permitted, &kept).map_err(failed)
    };
    keep().context(|| "drop capabilities")
}

/// For a helper beside the guests, which reads what they send: it has `kept`, gains nothing by executing
/// a program, and can do nothing of what a helper never does.
pub(crate) fn confine_helper(kept: &[Capability]) -> Result<()> {
    bound(kept)?;
    keep(kept)?;
    nix::sys::prctl::set_no_new_privs().context(|| "set no_new_privs")?;
    seccomp::install(&helper_filter())
}

/// What no helper does, nor any program that it executes (`nft`, `iptables`): mount, load code into the
/// kernel, look into other processes, set the clock, or use what exploits of the kernel come through.
const NEVER: &[libc::c_long] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_open_by_handle_at,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_perf_event_open,
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_mknodat,
    libc::SYS_unshare,
];

/// AUDIT_ARCH_* of this program (linux/audit.h).
const OWN_ARCHITECTURE: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };

fn helper_filter() -> BpfProgram {
    let denied = Verdict::Refuse(libc::EPERM);
    let own = Architecture {
        audit_arch: OWN_ARCHITECTURE,
        // From 0x40000000 on the same calls have a second number each (x32).
        known: vec![0..=0x3fff_ffff],
        calls: NEVER.iter().map(|number| (*number as u32, denied.clone())).collect(),
        unknown: denied,
    };
    // A process of another architecture is none of ours.
    BpfProgram::new(&[own], &Verdict::Kill)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::seccomp::simulate::{Call, run};

    #[test]
    fn helpers_have_all_calls_but_those_that_they_never_make() {
        let of = |architecture, number| run(&helper_filter(), &Call { architecture, number, arguments: [0; 6] });
        for number in 0..1000 {
            let never = NEVER.contains(&libc::c_long::from(number));
            let expected = if never { Verdict::Refuse(libc::EPERM) } else { Verdict::Allow };
            assert_eq!(of(OWN_ARCHITECTURE, number as u32), expected, "{number}");
        }
        assert_eq!(of(OWN_ARCHITECTURE, 0x4000_0000 | libc::SYS_read as u32), Verdict::Refuse(libc::EPERM));
        assert_eq!(of(OWN_ARCHITECTURE ^ 1, libc::SYS_read as u32), Verdict::Kill);
    }
}

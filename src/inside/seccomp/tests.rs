//! The filter against plain lists of what it refuses, for every number of both architectures.
//!
//! The lists are numbers, not names: a wrong name in `tables.rs` would be wrong here too.

use super::*;
use crate::sys::seccomp::simulate::{Call, run};

fn program(settings: &str) -> BpfProgram {
    SeccompFilter::compile(&toml::from_str(settings).unwrap()).0.unwrap()
}

fn refuse(errno: i32) -> Verdict {
    Verdict::Refuse(errno)
}

/// What becomes of socket(2) with these arguments where `program` holds.
fn socket(program: &BpfProgram, architecture: u32, arguments: [u64; 3]) -> Verdict {
    let [family, kind, protocol] = arguments;
    let number = tables().iter().find(|table| table.audit_arch == architecture).unwrap().sockets[0];
    run(program, &Call { architecture, number, arguments: [family, kind, protocol, 0, 0, 0] })
}

#[cfg(target_arch = "x86_64")]
#[test]
fn calls_of_both_architectures_are_allowed_but_those_listed() {
    const DENIED_64: &[u32] = &[
        103, 134, 136, 139, 154, 156, 167, 168, 172, 173, 174, 175, 176, 177, 178, 179, 180, 181, 182, 183, 184, 185,
        212, 236, 246, 298, 300, 301, 304, 313, 320, 321, 329, 330, 331, 425, 426, 427, 443,
    ];
    const DENIED_32: &[u32] = &[
        62, 86, 87, 101, 103, 110, 113, 115, 123, 127, 128, 129, 130, 131, 135, 149, 166, 167, 169, 253, 283, 336, 338,
        339, 342, 350, 357, 380, 381, 382, 425, 426, 427, 443,
    ];
    // Denied and absent beyond the default's: userfaultfd; keys, the new mount API and clone3.
    let reduced: [(&[u32], &[u32]); 2] =
        [(&[323], &[248, 249, 250, 430, 431, 432, 433, 435]), (&[374], &[286, 287, 288, 430, 431, 432, 433, 435])];
    let architectures = [(0xc000_003e, DENIED_64, &[41, 53], 56), (0x4000_0003, DENIED_32, &[359, 360], 120)];
    let programs = [program(""), program("syscalls = \"reduced\"")];
    for ((architecture, denied, sockets, clone), (denied_too, absent_too)) in architectures.into_iter().zip(reduced) {
        // Arguments that are refused nothing for themselves: a unix socket, a clone without flags.
        let of =
            |program, number, first| run(program, &Call { architecture, number, arguments: [first, 1, 0, 0, 0, 0] });
        for number in (0..600).chain([0x3fff_ffff, 0x4000_0000, 0x4000_0001, 0xf0005, u32::MAX]) {
            let expected = match number {
                _ if denied.contains(&number) => refuse(libc::EPERM),
                0..=470 => Verdict::Allow,
                _ => refuse(libc::ENOSYS),
            };
            let first = u64::from(sockets.contains(&number));
            assert_eq!(of(&programs[0], number, first), expected, "{architecture:x} {number}");
            let reduced = match number {
                _ if denied_too.contains(&number) => refuse(libc::EPERM),
                _ if absent_too.contains(&number) => refuse(libc::ENOSYS),
                _ => expected,
            };
            assert_eq!(of(&programs[1], number, first), reduced, "{architecture:x} {number} reduced");
        }
        let new_user = libc::CLONE_NEWUSER as u64;
        assert_eq!(of(&programs[0], clone, new_user), Verdict::Allow);
        assert_eq!(of(&programs[1], clone, new_user | 1), refuse(libc::EPERM));
        assert_eq!(of(&programs[1], clone, (new_user << 32) | 1), Verdict::Allow);
        let foreign = Call { architecture: architecture ^ 1, number: 0, arguments: [0; 6] };
        assert_eq!(run(&programs[0], &foreign), refuse(libc::ENOSYS));
    }
}

/// What socket(2) answers by default, in the kernel's numbers.
fn by_default(family: u64, kind: u64, protocol: u64) -> Verdict {
    const UNIX: u64 = 1;
    const PACKET: u64 = 17;
    match (family, kind & 0xf, protocol) {
        (UNIX | PACKET, _, _) => Verdict::Allow,
        // Audit.
        (16, _, 9) => refuse(libc::EAFNOSUPPORT),
        (16, _, 0 | 2 | 4 | 7 | 10 | 11 | 12 | 15 | 16) => Verdict::Allow,
        (16, _, _) => refuse(libc::EPROTONOSUPPORT),
        // DCCP, L2TP, SCTP, UDPLITE, SMC; raw sockets (3) are of IP itself.
        (2 | 10, 1 | 2 | 5 | 6, 33 | 115 | 132 | 136 | 256) => refuse(libc::EPROTONOSUPPORT),
        (2 | 10, _, _) => Verdict::Allow,
        _ => refuse(libc::EAFNOSUPPORT),
    }
}

#[test]
fn every_kind_of_socket_is_refused_but_those_of_the_default() {
    let program = program("");
    // SOCK_CLOEXEC and SOCK_NONBLOCK, and what the kernel does not look at.
    let flags = [0, 0o2_000_000, 0o2_004_000, 1 << 32];
    let protocols: Vec<u64> = (0..30).chain([33, 115, 132, 136, 255, 256, 262]).collect();
    for table in tables() {
        for (family, kind) in (0..50).flat_map(|family| (0..12).map(move |kind| (family, kind))) {
            for (flag, protocol) in flags.iter().flat_map(|flag| protocols.iter().map(move |protocol| (flag, protocol)))
            {
                let arguments = [family | (flag & (1 << 32)), kind | flag, protocol | (flag & (1 << 32))];
                let got = socket(&program, table.audit_arch, arguments);
                assert_eq!(got, by_default(family, kind, *protocol), "{arguments:?}");
            }
        }
    }
}

#[test]
fn a_list_of_sockets_allows_what_it_names() {
    let (yes, family, protocol) = (Verdict::Allow, refuse(libc::EAFNOSUPPORT), refuse(libc::EPROTONOSUPPORT));
    type Outcomes<'a> = ([u64; 3], &'a Verdict);
    let cases: [(&str, &[Outcomes]); 5] = [
        ("all", &[([40, 1, 0], &yes), ([16, 3, 9], &yes), ([2, 1, 132], &yes)]),
        ("UNIX", &[([1, 1, 0], &yes), ([2, 1, 0], &family), ([16, 3, 0], &family)]),
        ("NETLINK_AUDIT", &[([16, 3, 9], &yes), ([16, 3, 0], &protocol), ([1, 1, 0], &family)]),
        ("IPPROTO_SCTP", &[([2, 1, 132], &family)]),
        ("INET\", \"IPPROTO_SCTP", &[([2, 1, 132], &yes), ([2, 6, 33], &protocol), ([10, 1, 0], &family)]),
    ];
    for (list, sockets) in cases {
        let program = program(&format!("address-families = [\"{list}\"]"));
        for (arguments, expected) in sockets {
            for table in tables() {
                assert_eq!(&socket(&program, table.audit_arch, *arguments), *expected, "{list}: {arguments:?}");
            }
        }
    }
    assert_eq!(socket(&program("address-families = []"), tables()[0].audit_arch, [1, 1, 0]), family);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn socketcall_makes_no_sockets_unless_it_is_allowed() {
    let of = |settings, first| {
        run(&program(settings), &Call { architecture: 0x4000_0003, number: 102, arguments: [first, 0, 0, 0, 0, 0] })
    };
    for (first, expected) in [(1, refuse(libc::EAFNOSUPPORT)), (8, refuse(libc::EAFNOSUPPORT)), (3, Verdict::Allow)] {
        assert_eq!(of("", first), expected, "{first}");
        assert_eq!(of("address-families = [\"default\", \"SOCKETCALL\"]", first), Verdict::Allow, "{first}");
    }
}

#[test]
fn a_program_is_short_and_with_the_filter_off_there_is_none() {
    assert!(program("syscalls = \"reduced\"").instructions().len() < 500);
    assert!(SeccompFilter::compile(&toml::from_str("syscalls = \"off\"").unwrap()).0.is_none());
}

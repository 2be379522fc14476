use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A machine architecture by Debian's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arch {
    Amd64,
    I386,
    Arm64,
    Armhf,
    Riscv64,
    Ppc64el,
    S390x,
}

const NAMES: [(Arch, &str, &str); 7] = [
    (Arch::Amd64, "amd64", "x86_64"),
    (Arch::I386, "i386", "x86"),
    (Arch::Arm64, "arm64", "aarch64"),
    (Arch::Armhf, "armhf", "arm"),
    (Arch::Riscv64, "riscv64", "riscv64"),
    (Arch::Ppc64el, "ppc64el", "powerpc64"),
    (Arch::S390x, "s390x", "s390x"),
];

impl Arch {
    /// The architecture this program was built for.
    pub fn host() -> Self {
        std::env::consts::ARCH.parse().unwrap_or(Arch::Amd64)
    }

    /// Whether this host's kernel runs programs of `guest` without emulation.
    pub fn runs(self, guest: Arch) -> bool {
        self == guest || matches!((self, guest), (Arch::Amd64, Arch::I386) | (Arch::Arm64, Arch::Armhf))
    }
}

impl FromStr for Arch {
    type Err = Error;

    /// Takes Debian's name or the kernel's (`amd64` or `x86_64`).
    fn from_str(s: &str) -> Result<Self> {
        NAMES.iter().find(|(_, debian, kernel)| s == *debian || s == *kernel).map(|(arch, ..)| *arch).ok_or_else(|| {
            let known: Vec<_> = NAMES.iter().map(|(_, debian, _)| *debian).collect();
            Error::usage(format!("`{s}` is not a known architecture"))
                .hint(format!("valid values: {}", known.join(", ")))
        })
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, debian, _) = NAMES.iter().find(|(arch, ..)| arch == self).expect("every variant is in the table");
        f.write_str(debian)
    }
}

super::serde_as_text!(Arch);

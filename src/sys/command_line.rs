//! The command line that ps(1) shows of this process.

use std::ffi::CString;

use crate::error::{Context, Error, Result};

/// `struct prctl_mm_map` of linux/prctl.h.
#[repr(C)]
#[derive(Debug)]
struct MemoryMap {
    start_code: u64,
    end_code: u64,
    start_data: u64,
    end_data: u64,
    start_brk: u64,
    brk: u64,
    start_stack: u64,
    arg_start: u64,
    arg_end: u64,
    env_start: u64,
    env_end: u64,
    auxv: u64,
    auxv_size: u32,
    exe_fd: u32,
}

/// Shows `words` as this process's command line, for a child that acts as the program that they would have
/// executed. Fails on a kernel without CONFIG_CHECKPOINT_RESTORE; nothing depends on it.
pub(crate) fn show(words: &[CString]) -> Result<()> {
    let mut map = current()?;
    let text: Vec<u8> = words.iter().flat_map(|word| word.as_bytes_with_nul()).copied().collect();
    // For as long as the process lives: the kernel reads it at each read of /proc/PID/cmdline.
    let text = text.leak().as_ptr_range();
    (map.arg_start, map.arg_end) = (text.start as u64, text.end as u64);
    // SAFETY: changes what the kernel reports of this process (PR_SET_MM_MAP, prctl(2)) and no
    // memory; `map` outlives the call and the size given is its true size.
    let set = unsafe { libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_MAP, &raw const map, size_of::<MemoryMap>(), 0) };
    nix::errno::Errno::result(set).map(drop).context(|| "show another command line")
}

/// What the kernel has now, from proc_pid_stat(5), whose fields are counted from 1.
fn current() -> Result<MemoryMap> {
    let stat = std::fs::read_to_string("/proc/self/stat").context(|| "read `/proc/self/stat`")?;
    let fields: Vec<&str> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split_whitespace().collect();
    let field = |number: usize| {
        let value = fields.get(number - 3).and_then(|value| value.parse().ok());
        value.ok_or_else(|| Error::failed("/proc/self/stat is not as proc_pid_stat(5) says"))
    };
    Ok(MemoryMap {
        start_code: field(26)?,
        end_code: field(27)?,
        start_data: field(45)?,
        end_data: field(46)?,
        start_brk: field(47)?,
        // SAFETY: address 0 asks where it is (brk(2)).
        brk: unsafe { libc::syscall(libc::SYS_brk, 0) } as u64,
        start_stack: field(28)?,
        arg_start: field(48)?,
        arg_end: field(49)?,
        env_start: field(50)?,
        env_end: field(51)?,
        auxv: 0,
        auxv_size: 0,
        exe_fd: u32::MAX,
    })
}

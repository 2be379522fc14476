//! Kernel settings of the network namespace that this thread is in.

use crate::error::{Context, Result};

/// Writes `value` to `/proc/sys/PATH`, unless it is there already.
pub fn set(path: &str, value: &str) -> Result<()> {
    let file = format!("/proc/sys/{path}");
    let step = || format!("set `{}` to {value}", path.replace('/', "."));
    if std::fs::read_to_string(&file).context(step)?.trim() != value {
        std::fs::write(&file, value).context(step)?;
    }
    Ok(())
}

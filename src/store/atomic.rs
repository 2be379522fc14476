use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::error::{Context, Error, Result};

/// Replaces `path` with `contents` so that after a crash it holds the old or the new, whole.
pub fn replace_file(path: &Path, contents: &[u8], mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let dir = path.parent().expect("a file has a directory");
    let write = || -> Result<()> {
        fs::create_dir_all(dir)?;
        let mut temp = tempfile::NamedTempFile::new_in(dir)?;
        temp.write_all(contents)?;
        temp.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
        temp.as_file().sync_all()?;
        temp.persist(path).map_err(|e| e.error)?;
        sync_dir(dir)
    };
    write().context(|| format!("write `{}`", path.display()))
}

/// Makes renames in `dir` durable.
pub fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).context(|| format!("sync `{}`", dir.display()))
}

/// Removes a tree of files, following no symbolic link; a missing one is removed already.
pub fn remove_tree(path: &Path) -> Result<()> {
    let result = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => Err(e),
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    match result {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|e| Error::from(e).step(format!("remove `{}`", path.display()))),
    }
}

//! `lxm push` and `lxm pull`: files into a container and out of it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::{Context, require_root};
use crate::container::files::GuestTree;
use crate::error::{Error, Result};
use crate::ops::transfer::{self, Pulled};
use crate::types::ContainerName;

/// Copy files and directories into a container
///
/// The container may be running or stopped. Owner, group, mode and times are kept. Several sources
/// need a directory as target; a target that ends with `/` is created. `-` is standard input.
#[derive(Debug, clap::Args)]
#[command(override_usage = "lxm push [OPTIONS] <FILE>... <NAME>:<PATH>")]
pub(super) struct Push {
    /// Files to copy, then the target in the container, such as web:/etc/motd
    #[arg(value_name = "FILE", required = true)]
    paths: Vec<OsString>,

    /// Owner of the copies: a user of the container, UID or UID:GID [default: the sources' ids]
    #[arg(long, value_name = "USER")]
    owner: Option<String>,
}

/// Copy files and directories from a container to the host
///
/// The container may be running or stopped. As with cp(1) the copies belong to you and lose
/// set-user-id bits; times are kept. A source that is a symbolic link is followed inside the
/// container; links in a directory are copied as links. Several sources need a directory as target; a
/// target that ends with `/` is created. `-` is standard output.
#[derive(Debug, clap::Args)]
#[command(override_usage = "lxm pull [OPTIONS] <NAME>:<PATH>... <FILE>")]
pub(super) struct Pull {
    /// Files to copy, such as web:/etc/motd, then the target on the host
    #[arg(value_name = "NAME:PATH", required = true)]
    paths: Vec<OsString>,

    /// Keep owner, group and the whole mode, with the ids of the container: set-user-id programs of
    /// its root are then set-user-id root here
    #[arg(long)]
    preserve: bool,
}

/// A place in a container: `NAME:PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct GuestPath {
    name: ContainerName,
    path: PathBuf,
}

impl GuestPath {
    /// The path may be any bytes, as names of files are.
    fn parse(text: &OsStr) -> Result<Self> {
        let mut parts = text.as_bytes().splitn(2, |&byte| byte == b':');
        match (parts.next().map(str::from_utf8), parts.next()) {
            (Some(Ok(name)), Some(path)) if !path.is_empty() => {
                Ok(GuestPath { name: name.parse()?, path: OsStr::from_bytes(path).into() })
            }
            _ => Err(Error::usage(format!("`{}` is not a path in a container", text.display()))
                .hint("write the container's name, a colon and a path: `web:/etc/motd`")),
        }
    }
}

impl Push {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        require_root("copy into a container")?;
        let (target, sources) = ends(&self.paths)?;
        let target = GuestPath::parse(target)?;
        let guest = GuestTree::open(&context.layout, &target.name)?;
        let owner = self.owner.map(|owner| guest.owner(&owner)).transpose()?;
        if sources == ["-"] {
            transfer::push_stream(&guest, &mut std::io::stdin().lock(), &target.path, owner)?;
            return context.done(&target.name, serde_json::json!({ "target": target.path.to_string_lossy() }));
        }
        let sources: Vec<PathBuf> = sources.iter().map(PathBuf::from).collect();
        let left_out = transfer::push(&guest, &sources, &target.path, owner)?;
        tell(context, &left_out);
        context.done(
            &target.name,
            serde_json::json!({ "target": target.path.to_string_lossy(), "left_out": texts(&left_out) }),
        )
    }
}

impl Pull {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        require_root("copy out of a container")?;
        let (target, sources) = ends(&self.paths)?;
        let sources: Vec<GuestPath> = sources.iter().map(|source| GuestPath::parse(source)).collect::<Result<_>>()?;
        let name = &sources[0].name;
        if let Some(other) = sources.iter().find(|source| source.name != *name) {
            return Err(Error::usage(format!("`{}` and `{name}` are two containers", other.name))
                .hint("pull from one at a time"));
        }
        let guest = GuestTree::open(&context.layout, name)?;
        let paths: Vec<PathBuf> = sources.iter().map(|source| source.path.clone()).collect();
        match (target.as_bytes(), paths.as_slice()) {
            (b"-", [path]) => transfer::pull_stream(&guest, path, &mut super::render::Output).map(|()| 0),
            (b"-", _) => Err(Error::usage("only one file can be written to standard output")),
            _ => {
                let pulled = if self.preserve { Pulled::AsInGuest } else { Pulled::CallersOwn };
                let left_out = transfer::pull(&guest, &paths, target.as_ref(), pulled)?;
                tell(context, &left_out);
                context
                    .done(name, serde_json::json!({ "target": target.to_string_lossy(), "left_out": texts(&left_out) }))
            }
        }
    }
}

fn tell(context: &Context, names: &[PathBuf]) {
    for name in names {
        context
            .say(&format!("not copied: `{}` is neither a file, nor a directory, nor a symbolic link", name.display()));
    }
}

/// Names for JSON, which has text alone.
fn texts(names: &[PathBuf]) -> Vec<std::borrow::Cow<'_, str>> {
    names.iter().map(|name| name.to_string_lossy()).collect()
}

/// Where to copy to and what, at least one.
fn ends(paths: &[OsString]) -> Result<(&OsString, &[OsString])> {
    match paths.split_last() {
        Some((target, sources)) if !sources.is_empty() => Ok((target, sources)),
        _ => Err(Error::usage("the target is missing")
            .hint("`lxm push FILE... NAME:PATH` and `lxm pull NAME:PATH... FILE`: the target comes last")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_a_name_and_a_path() {
        let place = GuestPath::parse("web:/a:b".as_ref()).unwrap();
        assert_eq!((place.name.as_str(), place.path.to_str()), ("web", Some("/a:b")));
        let place = GuestPath::parse(OsStr::from_bytes(b"web:/caf\xe9")).unwrap();
        assert_eq!(place.path.as_os_str().as_bytes(), b"/caf\xe9");
        for bad in ["web", "web:", ":/a", "/a", "Web:/a"] {
            assert_eq!(GuestPath::parse(bad.as_ref()).unwrap_err().kind().exit_status(), 2, "{bad}");
        }
    }
}

//! Blocking rtnetlink: one current-thread runtime, one socket a network namespace.
//!
//! A socket stays in the namespace it was made in, so nothing is ever awaited while this thread is
//! in another namespace than its own.

use std::fs::File;
use std::future::Future;
use std::os::fd::{AsFd, BorrowedFd};

use futures_util::TryStreamExt;
use nix::sched::{CloneFlags, setns};
use rtnetlink::Handle;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};

use crate::error::{Context, Error, Result};
use crate::types::closest;

/// The runtime that all sockets of one caller share.
#[derive(Debug)]
pub(super) struct Netlink {
    runtime: tokio::runtime::Runtime,
}

impl Netlink {
    pub(super) fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map(|runtime| Netlink { runtime }).context(|| "start the network runtime")
    }

    /// A socket in this process's network namespace.
    pub(super) fn open(&self) -> Result<Handle> {
        let _in_runtime = self.runtime.enter();
        let (connection, handle, _) = rtnetlink::new_connection().context(|| "open a netlink socket")?;
        self.runtime.spawn(connection);
        Ok(handle)
    }

    /// A socket in the network namespace `netns`.
    pub(super) fn open_in(&self, netns: BorrowedFd<'_>) -> Result<Handle> {
        in_netns(netns, || self.open())
    }

    pub(super) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }
}

/// Runs `work` with this thread in the network namespace `netns`. `work` must not await.
pub(super) fn in_netns<T>(netns: BorrowedFd<'_>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let home = File::open("/proc/thread-self/ns/net").context(|| "open the network namespace of this thread")?;
    setns(netns, CloneFlags::CLONE_NEWNET).context(|| "enter the guest's network namespace")?;
    let result = work();
    // The right that let this thread leave lets it return; were it lost, nothing after this would be
    // done to the host that is meant for the host.
    setns(home.as_fd(), CloneFlags::CLONE_NEWNET).context(|| "leave the guest's network namespace")?;
    result
}

/// Netlink's own error with its errno, so that callers can branch on it.
impl From<rtnetlink::Error> for Error {
    fn from(e: rtnetlink::Error) -> Self {
        match e {
            rtnetlink::Error::NetlinkError(message) => Error::from(message.to_io()),
            other => Error::failed(other.to_string()),
        }
    }
}

/// A link of the host by name or alternative name; `None` where there is none.
pub(super) async fn link_by_name(handle: &Handle, name: &str) -> Result<Option<LinkMessage>> {
    let found = handle.link().get().match_name(name).execute().try_next().await;
    match found.map_err(Error::from) {
        Ok(link) => Ok(link),
        Err(e) if e.errno() == Some(libc::ENODEV) => Ok(None),
        Err(e) => Err(e.step(format!("look for the link `{name}`"))),
    }
}

/// The index of a link that must be there.
pub(super) async fn index_of(handle: &Handle, name: &str) -> Result<u32> {
    match link_by_name(handle, name).await? {
        Some(link) => Ok(link.header.index),
        None => Err(missing(name)),
    }
}

/// The refusal of a link that is not there.
pub(super) fn missing(name: &str) -> Error {
    let error = Error::not_found(format!("this host has no link `{name}`"));
    match similar_link(name) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error,
    }
}

/// The link of this host whose name is most like one that was mistyped.
pub(super) fn similar_link(name: &str) -> Option<String> {
    let links = nix::net::if_::if_nameindex().ok()?;
    let names: Vec<&str> = links.iter().filter_map(|link| link.name().to_str().ok()).collect();
    closest(name, names).map(str::to_owned)
}

/// Deletes a link; one that is gone already is fine.
pub(super) async fn delete_link(handle: &Handle, name: &str) -> Result<()> {
    let Some(link) = link_by_name(handle, name).await? else { return Ok(()) };
    match handle.link().del(link.header.index).execute().await.map_err(Error::from) {
        Err(e) if e.errno() == Some(libc::ENODEV) => Ok(()),
        result => result.context(|| format!("delete the link `{name}`")),
    }
}

/// The name of a link, without its alternative ones.
pub(super) fn name_of(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

pub(super) fn open_netns(leader: nix::unistd::Pid) -> Result<std::fs::File> {
    std::fs::File::open(format!("/proc/{leader}/ns/net")).context(|| "open the guest's network namespace")
}

//! AppArmor on this host: the profiles of lxm's, and a policy namespace for each guest.
//!
//! A guest's processes run under a profile of the host with a namespace stacked on it, in which the guest
//! loads profiles for its own services, as on a machine. Without a namespace it could load none.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::config::{AppArmor, Security};
use crate::error::{Context, Error, Kind, Result};
use crate::inside::lsm::Labels;

const POLICY: &str = "/sys/kernel/security/apparmor/policy";

/// The name of lxm's own profile for this kind of guest (packaging/apparmor.d).
fn profile(security: &Security) -> &'static str {
    match (security.privileged, security.nesting) {
        (true, _) => "lxm-container-privileged",
        (false, true) => "lxm-container-nesting",
        (false, false) => "lxm-container",
    }
}

/// The labels that `security` asks for on this host. `group`, which is one container's alone on this
/// host, names its policy namespace.
///
/// `unset` makes the command that unsets a setting of the guest's.
pub(super) fn labels(security: &Security, group: &str, unset: &dyn Fn(&str) -> String) -> Result<Labels> {
    let mut labels = Labels::default();
    if let Some(profile) = apparmor(security)? {
        // A privileged guest's root could load profiles into any namespace that it sees.
        let stacked = !security.privileged && Path::new(POLICY).join("namespaces").exists();
        labels.apparmor(profile, stacked.then(|| namespace(group)).as_deref());
    }
    if let Some(context) = &security.selinux_label {
        if !Path::new("/sys/fs/selinux/enforce").exists() {
            return Err(Error::new(Kind::HostLacks, "`security.selinux-label` is set, and this host has no SELinux")
                .hint(format!("`{}`", unset("security.selinux-label"))));
        }
        labels.selinux(context);
    }
    Ok(labels)
}

/// The AppArmor profile to run under; `None` where there is none.
fn apparmor(security: &Security) -> Result<Option<&str>> {
    let (name, must) = match &security.apparmor {
        AppArmor::Off => return Ok(None),
        AppArmor::Default => (profile(security), false),
        AppArmor::Profile(name) => (name.as_str(), true),
    };
    if crate::sys::apparmor::is_loaded(name) {
        return Ok(Some(name));
    }
    if !must {
        // `lxm check` says so; the host may have no AppArmor at all.
        return Ok(None);
    }
    Err(Error::new(Kind::HostLacks, format!("the AppArmor profile `{name}` is not loaded"))
        .hint("load it with `apparmor_parser -r FILE`; `aa-status` shows what is loaded"))
}

/// A name that no other container of this host has.
fn namespace(group: &str) -> String {
    format!("lxm-{}", hex::encode(&Sha256::digest(group)[..6]))
}

fn place(group: &str) -> PathBuf {
    Path::new(POLICY).join("namespaces").join(namespace(group))
}

/// Makes the policy namespace of a guest whose labels have one.
pub(super) fn make_namespace(labels: &Labels, group: &str) -> Result<()> {
    if !labels.names(&namespace(group)) {
        return Ok(());
    }
    match fs::create_dir(place(group)) {
        // An earlier boot's, of this very container.
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(e).context(|| format!("make `{}`", place(group).display()))
        }
        _ => Ok(()),
    }
}

/// Removes it with all profiles that the guest has loaded; there may be none.
pub(super) fn remove_namespace(group: &str) -> Result<()> {
    match fs::remove_dir(place(group)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).context(|| format!("remove `{}`", place(group).display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_guest_has_its_profile() {
        let of = |privileged, nesting| profile(&Security { privileged, nesting, ..Security::default() });
        assert_eq!(of(false, false), "lxm-container");
        assert_eq!(of(false, true), "lxm-container-nesting");
        assert_eq!(of(true, true), "lxm-container-privileged");
        assert_ne!(namespace("/lxm/web"), namespace("/lxm/web2"));
        assert!(namespace("/lxm.slice/lxm@web.service").chars().all(|c| c.is_ascii_alphanumeric() || c == '-'));
    }

    #[test]
    fn what_this_host_lacks_is_refused_only_when_it_was_asked_for() {
        let security = |apparmor| Security { apparmor, ..Security::default() };
        assert_eq!(apparmor(&security(AppArmor::Off)).unwrap(), None);
        let missing = security(AppArmor::Profile("no-such-profile".to_owned()));
        assert_eq!(apparmor(&missing).unwrap_err().kind(), Kind::HostLacks);
    }
}

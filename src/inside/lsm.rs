//! The labels of the host's security modules that a guest's processes run under.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};

use crate::error::{Context, Error, Result};

/// A label by the file that takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Label {
    /// Below /proc/thread-self/attr.
    file: &'static str,
    text: String,
}

/// The labels that the next program gets, its init or an attached command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Labels {
    labels: Vec<Label>,
    /// The policy namespace of AppArmor that is the guest's own.
    policy: Option<String>,
}

impl Labels {
    /// `profile`, in which the policy of the namespace `policy` is stacked: its guest loads that one.
    pub(crate) fn apparmor(&mut self, profile: &str, policy: Option<&str>) {
        let text = match policy {
            Some(policy) => format!("exec {profile}//&:{policy}:"),
            None => format!("exec {profile}"),
        };
        self.labels.push(Label { file: "apparmor/exec", text });
        self.policy = policy.map(str::to_owned);
    }

    pub(crate) fn selinux(&mut self, context: &str) {
        self.labels.push(Label { file: "exec", text: context.to_owned() });
    }

    /// Whether the guest has a policy namespace of its own.
    pub(crate) fn has_policy(&self) -> bool {
        self.policy.is_some()
    }

    /// Whether the guest's policy namespace is `name`.
    pub(crate) fn names(&self, name: &str) -> bool {
        self.policy.as_deref() == Some(name)
    }

    /// Opens the files that take them, while /proc is the host's.
    ///
    /// A guest's /proc is what its root has mounted there, and a label written to a file of the guest's would
    /// confine no process (CVE-2025-52881, CVE-2015-1334). The kernel takes them from the process that has
    /// opened the file alone, so that this is done in the child.
    pub(crate) fn open(&self) -> Result<OpenLabels> {
        let open = |label: &Label| {
            let path = format!("/proc/thread-self/attr/{}", label.file);
            let file = File::options().write(true).open(&path).context(|| format!("open `{path}`"))?;
            let is_proc = rustix::fs::fstatfs(&file).context(|| format!("look at `{path}`"))?.f_type;
            match is_proc == libc::PROC_SUPER_MAGIC {
                true => Ok((file, label.clone())),
                false => Err(Error::failed(format!("`{path}` is not of the proc file system"))),
            }
        };
        Ok(OpenLabels(self.labels.iter().map(open).collect::<Result<_>>()?))
    }
}

/// Labels whose files are open; they close when a program is executed.
#[derive(Debug)]
pub(crate) struct OpenLabels(Vec<(File, Label)>);

impl OpenLabels {
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.0.iter().map(|(file, _)| file.as_raw_fd())
    }

    /// Has the next program of this process get them.
    pub(crate) fn put_on(&self) -> Result<()> {
        for (file, label) in &self.0 {
            (&mut &*file)
                .write_all(label.text.as_bytes())
                .context(|| format!("take the label `{}`", label.text))
                .map_err(|e| {
                    e.hint(
                        "`lxm check` says which security modules and profiles this host has; see `security.apparmor`",
                    )
                })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_written_as_the_modules_read_them() {
        let mut labels = Labels::default();
        labels.apparmor("lxm-container", Some("lxm-web"));
        assert!(labels.has_policy() && labels.names("lxm-web") && !labels.names("web"));
        labels.apparmor("mine//&:lxm-other:", None);
        assert!(!labels.has_policy() && !labels.names("lxm-other"), "what a profile is called makes no namespace");
        labels.selinux("system_u:system_r:container_t:s0:c1,c2");
        let texts: Vec<(&str, &str)> = labels.labels.iter().map(|label| (label.file, label.text.as_str())).collect();
        assert_eq!(
            texts,
            [
                ("apparmor/exec", "exec lxm-container//&:lxm-web:"),
                ("apparmor/exec", "exec mine//&:lxm-other:"),
                ("exec", "system_u:system_r:container_t:s0:c1,c2")
            ]
        );
    }

    #[test]
    fn without_labels_nothing_is_opened() {
        assert!(Labels::default().open().unwrap().0.is_empty());
    }
}

//! What came of one check.

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckVerdict {
    Ok,
    /// Something works less well, or one feature does not work.
    Lacks,
    /// lxm does not work without it.
    Missing,
    /// It is not known.
    Unknown,
}

impl CheckVerdict {
    pub(crate) fn name(self) -> &'static str {
        match self {
            CheckVerdict::Ok => "ok",
            CheckVerdict::Lacks => "lacks",
            CheckVerdict::Missing => "missing",
            CheckVerdict::Unknown => "unknown",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckResult {
    /// Its section: `kernel`, `cgroups`, `storage`, `network`, `tools`, `host`.
    pub section: &'static str,
    /// `userns`, `cgroup-layout`, `nft` …; scripts may rely on it.
    pub id: String,
    pub verdict: CheckVerdict,
    /// What was found, or what will not work.
    pub detail: String,
    pub remedy: Option<String>,
}

impl CheckResult {
    pub(super) fn ok(section: &'static str, id: impl Into<String>, detail: impl Into<String>) -> Self {
        CheckResult { section, id: id.into(), verdict: CheckVerdict::Ok, detail: detail.into(), remedy: None }
    }

    pub(super) fn not(
        verdict: CheckVerdict,
        section: &'static str,
        id: impl Into<String>,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        CheckResult { section, id: id.into(), verdict, detail: detail.into(), remedy: Some(remedy.into()) }
    }
}

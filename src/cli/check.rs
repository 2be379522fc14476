//! `lxm check`: what this host lacks.

use serde::Serialize;

use super::{Context, Format, render};
use crate::error::{Error, Result};
use crate::ops::check::{CheckResult as Found, CheckVerdict, check};

/// Check whether this host has what lxm needs, with hints what to do
///
/// Each line is `ok`, `lacks` (a feature does not work), `missing` (no container works) or `unknown`.
/// The exit status is 5 if anything is `missing`.
#[derive(Debug, clap::Args)]
pub(super) struct Check {}

#[derive(Serialize)]
struct CheckFacts<'a> {
    section: &'a str,
    id: &'a str,
    verdict: &'a str,
    detail: &'a str,
    remedy: Option<&'a str>,
}

impl Check {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let checks = check(&context.layout)?;
        match context.format {
            Format::Json => render::json(&checks.iter().map(facts).collect::<Vec<_>>())?,
            Format::Text => render::text(&text(&checks))?,
        }
        let missing: Vec<&str> = checks
            .iter()
            .filter(|check| check.verdict == CheckVerdict::Missing)
            .map(|check| check.id.as_str())
            .collect();
        if missing.is_empty() {
            return Ok(0);
        }
        Err(Error::host_lacks(format!("this host lacks what lxm needs: {}", missing.join(", "))))
    }
}

fn facts(check: &Found) -> CheckFacts<'_> {
    CheckFacts {
        section: check.section,
        id: &check.id,
        verdict: check.verdict.name(),
        detail: &check.detail,
        remedy: check.remedy.as_deref(),
    }
}

fn text(checks: &[Found]) -> String {
    let mut text = String::new();
    let mut section = "";
    for check in checks {
        if check.section != section {
            section = check.section;
            text += &format!("{}--- {section} ---\n", if text.is_empty() { "" } else { "\n" });
        }
        text += &format!("{:8} {:15} {}\n", check.verdict.name(), check.id, check.detail);
        if let Some(remedy) = &check.remedy {
            text += &format!("{:24} hint: {remedy}\n", "");
        }
    }
    text
}

//! `lxm image`

use clap::Subcommand;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use serde::Serialize;
use serde_json::{Value, json};

use super::done::Done;
use super::json::bytes;
use super::{Context, Format, for_each, render, require_root};
use crate::error::{Error, Result};
use crate::ops::image::{self, Overview};
use crate::types::Arch;

/// List, rebuild and remove the images that `lxm create` copies
#[derive(Debug, clap::Args)]
#[command(after_help = "\
An image is the root file system that a template built or downloaded. It goes by its name (debian/trixie;
debian, where there is one of that template), its ID, or the first characters of the ID.")]
pub(super) struct Image {
    #[command(subcommand)]
    what: ImageVerb,
}

#[derive(Debug, Subcommand)]
enum ImageVerb {
    /// List the images on this host
    #[command(visible_alias = "ls")]
    List,
    /// List the images that can be downloaded
    ///
    /// `lxm create -t TEMPLATE -r RELEASE` downloads one.
    Available {
        /// Only images of this template
        #[arg(short, long, value_name = "TEMPLATE")]
        template: Option<String>,

        /// All architectures, not only those that this host can run
        #[arg(long)]
        all: bool,

        /// Ask also servers that send unsigned lists over plain http
        #[arg(long)]
        insecure: bool,
    },
    /// Remove images; fails for one that a container still uses
    ///
    /// With a published image its template goes.
    #[command(visible_alias = "delete")]
    Rm {
        /// Images
        #[arg(value_name = "IMAGE", required = true, add = ArgValueCompleter::new(complete))]
        ids: Vec<String>,
    },
    /// Rebuild images; existing containers keep the old ones
    Refresh {
        /// Images
        #[arg(value_name = "IMAGE", required_unless_present = "all", add = ArgValueCompleter::new(complete))]
        ids: Vec<String>,

        /// All images
        #[arg(long, conflicts_with = "ids")]
        all: bool,

        /// Accept unsigned images over plain http: anyone on the network path can replace them
        #[arg(long)]
        insecure: bool,
    },
}

/// What can be had, in the machine's form.
#[derive(Debug, Serialize)]
struct ToBeHad {
    template: String,
    release: String,
    arch: String,
    variant: String,
    /// The server's, for most a date.
    version: String,
    size_bytes: u64,
}

fn available(context: &Context, template: Option<&str>, all: bool, insecure: bool) -> Result<u8> {
    let mut rows = Vec::new();
    let mut failed = Vec::new();
    for (template, answer) in image::available(&context.layout, template, insecure)? {
        match answer {
            Err(e) => failed.push(e),
            Ok(systems) => {
                rows.extend(systems.into_iter().filter(|system| all || runs_here(&system.arch)).map(|s| ToBeHad {
                    template: template.clone(),
                    release: s.release,
                    arch: s.arch,
                    variant: s.variant,
                    version: s.version,
                    size_bytes: s.bytes,
                }))
            }
        }
    }
    match context.format {
        Format::Json => render::json(&rows)?,
        Format::Text => render::table(
            &["TEMPLATE", "RELEASE", "ARCH", "VARIANT", "VERSION", "SIZE"],
            rows.into_iter().map(|row| {
                let size = bytes(row.size_bytes);
                [row.template, row.release, row.arch, row.variant, row.version, size]
            }),
        )?,
    }
    // What is known is shown; that a server could not be asked is a failure all the same.
    failed.into_iter().next().map_or(Ok(0), Err)
}

fn runs_here(arch: &str) -> bool {
    arch.parse().is_ok_and(|arch| Arch::host().runs(arch))
}

/// An image in the machine's form.
#[derive(Debug, Serialize)]
struct ImageFacts<'a> {
    /// As `image rm` takes it: the template, and the release where there is one.
    name: String,
    id: &'a str,
    template: &'a str,
    release: &'a str,
    arch: String,
    packages: &'a [String],
    /// RFC 3339, UTC.
    created: &'a str,
    /// On disk, in all.
    size_bytes: u64,
    /// Of that, in common with containers.
    shared_bytes: u64,
    /// A newer one has replaced it.
    superseded: bool,
    /// Containers and snapshots that are layered on it.
    used_by: Vec<String>,
}

impl<'a> ImageFacts<'a> {
    fn of(image: &'a Overview) -> Result<Self> {
        let (record, usage) = (&image.record, image.usage()?);
        Ok(ImageFacts {
            name: image.name(),
            id: &image.id,
            template: &record.template,
            release: &record.release,
            arch: record.arch.to_string(),
            packages: &record.packages,
            created: &record.created,
            size_bytes: usage.total(),
            shared_bytes: usage.shared,
            superseded: image.superseded,
            used_by: image.used_by.iter().map(|user| user.display().to_string()).collect(),
        })
    }
}

impl Image {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        if let ImageVerb::Available { template, all, insecure } = &self.what {
            return available(context, template.as_deref(), *all, *insecure);
        }
        require_root("work on images")?;
        match self.what {
            ImageVerb::Available { .. } => unreachable!("answered above"),
            ImageVerb::List => list(context).map(|()| 0),
            ImageVerb::Rm { ids } => each(context, &ids, |id| {
                let id = image::remove(&context.layout, id)?;
                context.say(&format!("removed image `{id}`"));
                Ok(json!({ "id": id }))
            }),
            ImageVerb::Refresh { ids, all, insecure } => {
                let ids = if all { current(context)? } else { ids };
                each(context, &ids, |id| refresh(context, id, insecure))
            }
        }
    }
}

fn list(context: &Context) -> Result<()> {
    let images = image::list(&context.layout)?;
    if context.format == Format::Json {
        return render::json(&images.iter().map(ImageFacts::of).collect::<Result<Vec<_>>>()?);
    }
    let row = |image: &Overview| -> Result<[String; 9]> {
        let (record, usage) = (&image.record, image.usage()?);
        let users = match (image.used_by.len(), image.superseded) {
            (0, false) => String::new(),
            (0, true) => "superseded".to_owned(),
            (1.., _) => image.used_by.iter().map(|user| user.display().to_string()).collect::<Vec<_>>().join(","),
        };
        Ok([
            image.name(),
            image.id.clone(),
            record.template.clone(),
            record.release.clone(),
            record.arch.to_string(),
            bytes(usage.total()),
            bytes(usage.shared),
            render::time(&record.created),
            users,
        ])
    };
    let rows = images.iter().map(row).collect::<Result<Vec<_>>>()?;
    render::table(&["NAME", "ID", "TEMPLATE", "RELEASE", "ARCH", "SIZE", "SHARED", "CREATED", "USED BY"], rows)
}

fn refresh(context: &Context, id: &str, insecure: bool) -> Result<Value> {
    let done = image::refresh(&context.layout, id, insecure)?;
    context.say(&format!("image `{}` replaces `{}`", done.new, done.old));
    if let Some(reason) = &done.kept {
        context.say(&format!("the old image is kept for now: {reason}"));
    }
    Ok(json!({ "id": done.new, "old_id": done.old, "old_is_kept": done.kept.is_some() }))
}

fn current(context: &Context) -> Result<Vec<String>> {
    let images = image::list(&context.layout)?;
    Ok(images.into_iter().filter(|image| !image.superseded).map(|image| image.id).collect())
}

/// Does it to each, and fails at the end with all that failed.
fn each(context: &Context, ids: &[String], what: impl Fn(&str) -> Result<Value>) -> Result<u8> {
    if context.format == Format::Json {
        return for_each::list(context, ids.iter().map(|id| Done::of(id, what(id))).collect::<Result<_>>()?);
    }
    let mut failures: Vec<Error> = ids.iter().filter_map(|id| what(id).err()).collect();
    match failures.len() {
        0 => Ok(0),
        1 => Err(failures.remove(0)),
        _ => {
            let kind = failures[0].kind();
            let all: Vec<String> = failures.iter().map(Error::to_string).collect();
            Err(Error::new(kind, all.join("; ")))
        }
    }
}

/// The names and ids of the images that exist, for a shell.
fn complete(current: &std::ffi::OsStr) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    let layout = super::context::layout(None);
    let images = layout.and_then(|layout| image::list(&layout)).unwrap_or_default();
    let by_id = images.iter().map(|image| (image.id.clone(), image.name()));
    let by_name = images.iter().filter(|image| !image.superseded).map(|image| (image.name(), image.id.clone()));
    let matching = by_name.chain(by_id).filter(|(word, _)| word.starts_with(current));
    matching.map(|(word, other)| CompletionCandidate::new(word).help(Some(other.into()))).collect()
}

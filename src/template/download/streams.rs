//! The simplestreams format: an index of product lists, and in them versions and their files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::fetch::Fetcher;
use super::verify;
use crate::error::{Context, Error, Kind, Result};
use crate::types::Arch;

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub os: &'a str,
    pub release: &'a str,
    pub arch: Arch,
    pub variant: &'a str,
}

/// The newest root file system of one kind that a server has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Available {
    pub os: String,
    pub release: String,
    /// As the server writes it.
    pub arch: String,
    pub variant: String,
    /// Of its making; for most servers a date.
    pub version: String,
    pub bytes: u64,
}

/// How a root file system is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    Tar,
    Squashfs,
}

/// The file to download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    pub path: String,
    pub kind: FileKind,
    /// Lower-case hexadecimal.
    pub sha256: String,
    pub size: u64,
}

#[derive(Deserialize)]
struct Index {
    index: BTreeMap<String, IndexEntry>,
}

#[derive(Deserialize)]
struct IndexEntry {
    #[serde(default)]
    datatype: String,
    path: String,
}

#[derive(Deserialize)]
struct Products {
    products: BTreeMap<String, Product>,
}

#[derive(Debug, Clone, Deserialize)]
struct Product {
    /// `OS:RELEASE:ARCH:VARIANT`, or as the server likes.
    #[serde(skip)]
    key: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    arch: String,
    #[serde(default)]
    release: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    variant: String,
    #[serde(default)]
    aliases: String,
    #[serde(default)]
    versions: BTreeMap<String, Version>,
}

#[derive(Debug, Clone, Deserialize)]
struct Version {
    #[serde(default)]
    items: BTreeMap<String, Item>,
}

#[derive(Debug, Clone, Deserialize)]
struct Item {
    #[serde(default)]
    ftype: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    sha256: String,
    #[serde(default)]
    size: u64,
}

/// What a server has.
pub(super) struct Streams {
    server: String,
    products: Vec<Product>,
}

/// Why a server's lists are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Proof {
    /// They are signed by a key of this keyring.
    Signed(PathBuf),
    /// They come by https, and no redirection leads off it.
    Https,
    /// They are not, but the admin says `--insecure`.
    Insecure,
    /// They are not.
    None,
}

impl Proof {
    pub(super) fn of(server: &str, keyring: Option<PathBuf>, insecure: bool) -> Self {
        match keyring {
            Some(keyring) => Proof::Signed(keyring),
            None if server.to_ascii_lowercase().starts_with("https://") => Proof::Https,
            None if insecure => Proof::Insecure,
            None => Proof::None,
        }
    }

    fn fetcher(&self) -> Result<Fetcher> {
        match self {
            Proof::Signed(_) | Proof::Insecure => Ok(Fetcher::new()),
            Proof::Https => Ok(Fetcher::by_https_alone()),
            Proof::None => Err(Error::failed("its address is http, and its index is not signed")
                .hint("take its https address, name its key (`download.keyring`), or say `--insecure`")),
        }
    }
}

/// Far above any server's lists.
const LIST_LIMIT: u64 = 128 << 20;

impl Streams {
    /// Reads the lists of the server at `server`, if there is a reason to believe them.
    pub(super) fn read(server: &str, proof: &Proof) -> Result<Self> {
        let server = server.trim_end_matches('/').to_owned();
        let step = || format!("ask the image server `{server}`");
        let mut streams = Streams { server: server.clone(), products: Vec::new() };
        let fetcher = proof.fetcher().context(step)?;
        let index: Index = streams.list(&fetcher, "streams/v1/index.json", proof).context(step)?;
        for entry in index.index.values().filter(|entry| entry.datatype == "image-downloads") {
            let products: Products = streams.list(&fetcher, &entry.path, proof).context(step)?;
            let named = products.products.into_iter().map(|(key, product)| Product { key, ..product });
            streams.products.extend(named);
        }
        if streams.products.is_empty() {
            return Err(Error::failed("it has no images to download").step(step()));
        }
        Ok(streams)
    }

    fn list<T: serde::de::DeserializeOwned>(&self, fetcher: &Fetcher, path: &str, proof: &Proof) -> Result<T> {
        let text = match proof {
            Proof::Https | Proof::Insecure | Proof::None => fetcher.read(&self.url(path)?, LIST_LIMIT)?,
            Proof::Signed(keyring) => {
                let signed = path.strip_suffix(".json").map_or_else(|| path.to_owned(), |stem| format!("{stem}.sjson"));
                let url = self.url(&signed)?;
                verify::signed_text(&fetcher.read(&url, LIST_LIMIT)?, keyring).context(|| format!("verify `{url}`"))?
            }
        };
        serde_json::from_slice(&text)
            .map_err(|e| Error::failed(format!("`{path}` is not what a simplestreams server has: {e}")))
    }

    /// Where a file is that a list names.
    pub(super) fn url(&self, path: &str) -> Result<String> {
        // It comes from the server, which must not send us elsewhere.
        let plain = !path.starts_with('/') && path.split('/').all(|part| !part.is_empty() && part != "..");
        if !plain || path.contains([':', '?', '#', '%', '\\']) || path.contains(char::is_whitespace) {
            return Err(Error::failed(format!("`{}` is not a path on the server", path.escape_default())));
        }
        Ok(format!("{}/{path}", self.server))
    }

    /// The newest file that fits; fails with `Kind::NotFound` and what there is instead.
    pub(super) fn choose(&self, wanted: &Wanted) -> Result<Chosen> {
        let of_os = |product: &&Product| product.is_os(wanted.os);
        let of_kind =
            |product: &&Product| of_os(product) && product.is_arch(wanted.arch) && product.variant() == wanted.variant;
        let release = match wanted.release {
            "" => newest_release(self.products.iter().filter(of_kind)).unwrap_or_default(),
            release => release,
        };
        let newest = self
            .products
            .iter()
            .filter(of_kind)
            .filter(|product| product.is_release(release))
            .filter_map(|product| product.newest());
        let newest = newest.max_by(|a, b| a.0.cmp(b.0)).map(|(_, chosen)| chosen);
        newest.ok_or_else(|| {
            let Wanted { os, arch, variant, .. } = wanted;
            let there: Vec<String> = self
                .products
                .iter()
                .filter(of_os)
                .filter(|p| p.is_arch(*arch))
                .map(|product| {
                    let Product { release, .. } = product;
                    if product.variant() == "default" {
                        release.clone()
                    } else {
                        format!("{release} ({})", product.variant())
                    }
                })
                .collect();
            let error = Error::not_found(format!("`{}` has no {os} {release} ({variant}) for {arch}", self.server));
            match there.is_empty() {
                true => error.hint("`lxm image available` shows what it has"),
                false => error.hint(format!("for {arch} it has {}", there.join(", "))),
            }
        })?
    }

    /// All that there is of one system.
    pub(super) fn available(&self, os: &str) -> Vec<Available> {
        let mut found: Vec<Available> = self
            .products
            .iter()
            .filter(|product| product.is_os(os))
            .filter_map(|product| {
                let (version, chosen) = product.newest()?;
                Some(Available {
                    os: product.os.to_lowercase(),
                    release: product.release.clone(),
                    arch: product.arch.clone(),
                    variant: product.variant().to_owned(),
                    version: version.to_owned(),
                    bytes: chosen.ok()?.size,
                })
            })
            .collect();
        found.sort_by(|a, b| (&a.release, &a.arch, &a.variant).cmp(&(&b.release, &b.arch, &b.variant)));
        found
    }
}

/// The release with the highest number; of those that have none, such as `current`, the last.
fn newest_release<'a>(products: impl Iterator<Item = &'a Product>) -> Option<&'a str> {
    let number = |release: &str| -> Option<Vec<u64>> { release.split('.').map(|part| part.parse().ok()).collect() };
    products.map(|product| product.release.as_str()).max_by_key(|release| (number(release), release.to_owned()))
}

impl Product {
    fn is_os(&self, os: &str) -> bool {
        let in_key = self.key.split(':').next().unwrap_or_default();
        self.os.eq_ignore_ascii_case(os) || in_key.eq_ignore_ascii_case(os)
    }

    fn is_release(&self, release: &str) -> bool {
        let known = [self.release.as_str(), self.version.as_str()].into_iter().chain(self.aliases.split(','));
        !release.is_empty() && known.into_iter().any(|known| known == release)
    }

    fn is_arch(&self, arch: Arch) -> bool {
        self.arch.parse() == Ok(arch)
    }

    fn variant(&self) -> &str {
        if self.variant.is_empty() { "default" } else { &self.variant }
    }

    /// The newest version that has a root file system, with it.
    fn newest(&self) -> Option<(&str, Result<Chosen>)> {
        self.versions.iter().rev().find_map(|(name, version)| {
            let of_kind = |kinds: &[&str]| version.items.values().find(|item| kinds.contains(&item.ftype.as_str()));
            let (item, kind) = match of_kind(&["root.tar.xz", "root.tar.zst", "root.tar.gz"]) {
                Some(item) => (item, FileKind::Tar),
                None => (of_kind(&["squashfs", "root.squashfs"])?, FileKind::Squashfs),
            };
            Some((name.as_str(), item.checked(kind)))
        })
    }
}

impl Item {
    fn checked(&self, kind: FileKind) -> Result<Chosen> {
        let is_digest = self.sha256.len() == 64 && self.sha256.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_digest || self.size == 0 {
            return Err(Error::new(Kind::Failed, format!("the server gives no sha256 and size of `{}`", self.path)));
        }
        Ok(Chosen { path: self.path.clone(), kind, sha256: self.sha256.to_lowercase(), size: self.size })
    }
}

#[cfg(test)]
mod tests;

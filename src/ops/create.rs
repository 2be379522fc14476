//! `lxm create`: from a template to a container that can be started.

use std::os::fd::AsFd;
use std::path::Path;

use crate::config::{Config, Network, NetworkType};
use crate::container::ssh_key;
use crate::distro::{self, HostKeys, Identity, Login};
use crate::error::{Context, Error, Result};
use crate::image::measure::{HighestOwner, measure};
use crate::image::{BuildInputs, Image, ImageSpec, ImageStore, Remarks};
use crate::progress::Progress;
use crate::storage;
use crate::store::{Layout, OperationLock, Origin, Staging, ids, require_free};
use crate::sys;
use crate::template::{self, Recipe};
use crate::types::{ContainerName, IdRange};

pub(crate) use crate::template::BuildRequest;

/// What is to be made.
#[derive(Debug, Clone)]
pub(crate) struct CreateRequest {
    pub name: ContainerName,
    pub template: String,
    pub build: BuildRequest,
    /// Lines for the default user's `authorized_keys`.
    pub ssh_keys: Vec<String>,
    /// The default user's password, as [`super::login::hash_password`] makes it.
    pub password: Option<String>,
    pub privileged: bool,
    /// `security.id-range-size`.
    pub id_range_size: Option<u32>,
    /// To be removed when it stops.
    pub ephemeral: bool,
    /// A backend's name, or `auto`.
    pub storage: String,
    /// `none`, `host` or a bridge's name.
    pub network: String,
}

/// What has been made.
#[derive(Debug, Clone)]
pub(crate) struct Created {
    pub storage: storage::BackendChoice,
    /// The default user and how it is logged in as; `None` where that is as the template has it.
    pub login: Option<(String, Access)>,
    /// What of an archive or an image was left out or changed.
    pub remarks: Vec<String>,
}

/// How a new container's default user is logged in as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// With what its maker gave: a key or a password.
    Given,
    /// With the host's own key, by `lxm ssh`.
    OwnKey,
    /// Not yet: there is no `ssh-keygen` that would make such a key.
    Locked,
}

/// Makes a container. A failure, or a kill at any point, leaves none; what a kill leaves is swept
/// by the next create of that name and by `lxm gc`.
pub(crate) fn create(layout: &Layout, request: &CreateRequest) -> Result<Created> {
    let name = &request.name;
    make(layout, request).context(|| format!("create `{name}`"))
}

fn make(layout: &Layout, request: &CreateRequest) -> Result<Created> {
    let name = &request.name;
    require_free(layout, name)?;
    let mut config = config(request)?;
    let recipe = Recipe::new(template::find(layout, &request.template)?, &request.build)?;
    let choice = storage::choose(layout, &request.storage)?;
    let backend = storage::backend(layout, choice.backend)?;
    // Before the lock: a build takes minutes, and others may work with this name meanwhile.
    let mut image = image(layout, &recipe, &request.build, &config)?;

    require_ids(&image.record.highest(), &config)?;

    let (mut login, access) = recipe.found.template.user.clone().map(|user| login(layout, request, user)).unzip();
    if let Some(root) = login.as_mut().filter(|login| login.name == "root")
        && reads_root_keys(&image)?
    {
        config.credential.extend(root_keys(&std::mem::take(&mut root.keys)));
    }

    let lock = OperationLock::acquire(layout, name)?;
    let discard = |place: &Path| crate::container::sweep::discard(layout, place);
    let staging = Staging::begin(layout, name, &lock, &discard)?;
    let place = staging.place();
    write_config(&config, place)?;
    let reserved = ids::reserve(layout)?;
    let origin = origin(&recipe, &image, choice.backend, reserved.range, request.ephemeral);
    origin.write_file(&place.join("origin.toml"))?;
    // Now that it is written, others see that the range is taken.
    drop(reserved);

    let progress = Progress::bytes(format!("copy `{name}`"), image.record.bytes);
    image.remarks.append(backend.create(&image.rootfs(), place, &progress)?);
    // Root's password is as the template made it.
    let access = login.as_ref().filter(|login| login.name != "root").map(|login| login.name.clone()).zip(access);
    let identity = Identity { hostname: name.to_string(), login, keys: HostKeys::Fresh };
    let tree = storage::Tree::open_in_the_making(backend.as_ref(), place)?;
    distro::customize(tree.path(), place, &identity)?;
    drop(tree);
    progress.finish();
    staging.commit()?;
    Ok(Created { storage: choice, login: access, remarks: image.remarks.notes() })
}

/// The default user, who is never left without a way in if that can be helped.
fn login(layout: &Layout, request: &CreateRequest, name: String) -> (Login, Access) {
    let mut login = Login { name, keys: request.ssh_keys.clone(), password: request.password.clone() };
    if !login.keys.is_empty() || login.password.is_some() || login.name == "root" {
        return (login, Access::Given);
    }
    // The container works without it; its maker gets a note.
    login.keys.extend(ssh_key::public(layout).ok());
    let access = if login.keys.is_empty() { Access::Locked } else { Access::OwnKey };
    (login, access)
}

fn reads_root_keys(image: &Image) -> Result<bool> {
    let rootfs = sys::fs::open_dir(image.rootfs())?;
    // One without an init is refused by the start, with what to do.
    Ok(distro::inspect(rootfs.as_fd(), None).is_ok_and(|guest| guest.reads_root_keys()))
}

/// The credential that puts keys into root's `authorized_keys`; none for no keys.
fn root_keys(keys: &[String]) -> Option<(String, String)> {
    let text: String = keys.iter().map(|key| format!("{key}\n")).collect();
    (!text.is_empty()).then(|| ("ssh.authorized_keys.root".to_owned(), text))
}

fn config(request: &CreateRequest) -> Result<Config> {
    let mut config = Config { uuid: crate::container::random::uuid()?, ..Config::default() };
    config.security.privileged = request.privileged;
    config.security.id_range_size = request.id_range_size;
    config.network.insert("eth0".into(), network(&request.network)?);
    config.unfit().first().map_or(Ok(config), |unfit| Err(unfit.error()))
}

/// What `--network` and `network.default` mean: `none`, `host` or a bridge.
pub(crate) fn network(wired_to: &str) -> Result<Network> {
    Ok(match wired_to {
        "none" => Network { kind: NetworkType::None, ..Network::default() },
        "host" => Network { kind: NetworkType::Host, ..Network::default() },
        bridge => {
            if !crate::config::is_link_name(bridge) {
                return Err(Error::usage(format!("`{}` is not a bridge's name", bridge.escape_default()))
                    .hint("`--network` takes `none`, `host` or a bridge"));
            }
            Network {
                bridge: Some(bridge.to_owned()),
                mac: Some(crate::container::random::mac()?),
                ..Network::default()
            }
        }
    })
}

fn write_config(config: &Config, place: &Path) -> Result<()> {
    let text = toml::to_string(config).map_err(|e| Error::failed(e.to_string()))?;
    crate::store::replace_file(&place.join("config.toml"), text.as_bytes(), 0o644)
}

fn origin(recipe: &Recipe, image: &Image, storage: &str, ids: IdRange, ephemeral: bool) -> Origin {
    Origin {
        template: recipe.found.name.clone(),
        release: recipe.release.clone(),
        arch: recipe.arch,
        image: image.id.clone(),
        storage: storage.to_owned(),
        created: crate::store::now(),
        lxm: env!("CARGO_PKG_VERSION").to_owned(),
        ephemeral,
        ids,
        wide_ids: None,
    }
}

/// The image that the recipe makes, built unless it is there.
fn image(layout: &Layout, recipe: &Recipe, build: &BuildRequest, config: &Config) -> Result<Image> {
    let spec = spec(recipe, build)?;
    ImageStore::new(layout).get_or_build(&spec, |target| {
        let remarks = self::build(layout, recipe, target)?;
        // One that this container cannot be made of is not kept.
        require_ids(&measure(target)?.highest, config)?;
        Ok(remarks)
    })
}

fn require_ids(highest: &HighestOwner, config: &Config) -> Result<()> {
    super::fits::ids(highest, &config.security).map_err(|e| {
        e.hint(
            "give it more with `--id-range-size`, or make the archive or the template with other owners (`tar --owner-map`)",
        )
    })
}

/// What decides the image of `recipe`, which came of `build`.
pub(crate) fn spec(recipe: &Recipe, build: &BuildRequest) -> Result<ImageSpec> {
    Ok(ImageSpec {
        template: recipe.found.name.clone(),
        release: recipe.release.clone(),
        arch: recipe.arch,
        packages: recipe.packages.clone(),
        content: recipe.fingerprint()?,
        asked: BuildInputs {
            mirror: build.mirror.clone(),
            packages: build.packages.clone(),
            args: build.args.clone(),
            insecure: build.insecure,
        },
    })
}

/// Fills `target` with the recipe's system; the builder's words go to its log.
pub(crate) fn build(layout: &Layout, recipe: &Recipe, target: &Path) -> Result<Remarks> {
    let log = layout.build_log(&recipe.found.name, &recipe.release, recipe.arch);
    template::build(recipe, target, &log, &layout.downloads())
}

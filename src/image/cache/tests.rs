use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::error::Kind;
use crate::image::BuildInputs;
use crate::types::Arch;

pub(super) struct Host {
    pub(super) dir: tempfile::TempDir,
    pub(super) store: ImageStore,
}

pub(super) fn host() -> Host {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::new(&Layout::new(dir.path()));
    Host { dir, store }
}

pub(super) fn spec(template: &str) -> ImageSpec {
    ImageSpec {
        template: template.into(),
        release: "1".into(),
        arch: Arch::Amd64,
        packages: vec![],
        content: String::new(),
        asked: BuildInputs { mirror: Some("http://mirror".into()), ..BuildInputs::default() },
    }
}

fn write(text: &'static str) -> impl Fn(&Path) -> Result<Remarks> {
    move |rootfs| {
        fs::write(rootfs.join("file"), text)?;
        Ok(Remarks::default())
    }
}

pub(super) fn nobody(_: &Layout, _: &Path) -> Result<Vec<PathBuf>> {
    Ok(vec![])
}

fn contents(image: &Image) -> String {
    fs::read_to_string(image.rootfs().join("file")).unwrap()
}

impl Host {
    fn ids(&self) -> Vec<String> {
        self.store.list().unwrap().into_iter().map(|image| image.id).collect()
    }

    /// What lies about in the images' directory beside images.
    pub(super) fn leftovers(&self) -> Vec<String> {
        read_names(&self.dir.path().join("var/cache/lxm/images/.staging")).unwrap()
    }
}

#[test]
fn an_image_is_built_once_and_then_found() {
    let host = host();
    let first = host.store.get_or_build(&spec("a"), write("one")).unwrap();
    let second = host.store.get_or_build(&spec("a"), |_| panic!("it is there")).unwrap();
    assert_eq!((first.id.clone(), contents(&first)), (second.id.clone(), contents(&second)));
    let listed = host.store.list().unwrap();
    assert_eq!(listed[0].record, first.record);
    assert_eq!(first.record.asked.mirror.as_deref(), Some("http://mirror"));
    assert!((4096..100_000).contains(&first.record.bytes), "{}", first.record.bytes);
    assert_eq!(host.store.find(&first.id[..4]).unwrap().id, first.id);
}

#[test]
fn an_image_wanted_by_many_at_once_is_built_once_and_whole() {
    let host = host();
    let built = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let image = host.store.get_or_build(&spec("a"), |rootfs| {
                    built.fetch_add(1, Ordering::Relaxed);
                    fs::write(rootfs.join("file"), "ha")?;
                    std::thread::sleep(std::time::Duration::from_millis(30));
                    fs::write(rootfs.join("file"), "whole")?;
                    Ok(Remarks::default())
                });
                assert_eq!(contents(&image.unwrap()), "whole");
            });
        }
    });
    assert_eq!(built.into_inner(), 1);
}

#[test]
fn a_failed_build_leaves_nothing_and_the_next_one_works() {
    let host = host();
    let failing = |rootfs: &Path| -> Result<Remarks> {
        fs::write(rootfs.join("half"), "")?;
        Err(Error::failed("no mirror"))
    };
    let error = host.store.get_or_build(&spec("a"), failing).unwrap_err().to_string();
    assert!(error.ends_with(": no mirror"), "{error}");
    assert!(host.ids().is_empty() && host.leftovers().is_empty());
    let image = host.store.get_or_build(&spec("a"), write("one")).unwrap();
    assert_eq!(fs::read_dir(image.rootfs()).unwrap().count(), 1);
}

#[test]
fn what_a_killed_build_left_is_swept_by_the_next_one_or_by_gc() {
    let host = host();
    let id = spec("a").id();
    let left = host.dir.path().join("var/cache/lxm/images/.staging").join(&id);
    let leave = || {
        fs::create_dir_all(left.join("rootfs/proc")).unwrap();
        fs::write(left.join("rootfs/half"), "").unwrap();
    };
    leave();
    let image = host.store.get_or_build(&spec("a"), write("one")).unwrap();
    assert!(!image.rootfs().join("half").exists());
    leave();
    assert_eq!(host.store.sweep(&nobody).unwrap(), vec![Ok(id.clone())]);
    assert_eq!((host.ids(), host.leftovers()), (vec![id.clone()], vec![]));
    // One that is still being built is not.
    leave();
    let _build = FileLock::acquire(&host.store.lock_file(&id, "build")).unwrap();
    assert!(host.store.sweep(&nobody).unwrap().is_empty());
    assert_eq!(host.leftovers(), [id]);
}

#[test]
fn an_image_in_use_is_not_removed() {
    let host = host();
    let image = host.store.get_or_build(&spec("a"), write("one")).unwrap();
    let id = image.id.clone();
    let error = host.store.remove(&id, &nobody).unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    drop(image);
    let error = host.store.remove(&id, &|_, _| Ok(vec!["web".into(), "db/snapshots/1".into()])).unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(error.to_string().contains("in use by `web`, `db/snapshots/1`"), "{error}");
    host.store.remove(&id, &nobody).unwrap();
    assert!(host.ids().is_empty() && host.leftovers().is_empty());
    assert_eq!(host.store.find(&id).unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn users_are_looked_for_wherever_the_image_was_taken_for() {
    let host = host();
    let elsewhere = ImageStore::new(&Layout::new(host.dir.path()).with_containers("/srv/containers"));
    let id = elsewhere.get_or_build(&spec("a"), write("one")).unwrap().id.clone();
    drop(host.store.get_or_build(&spec("a"), |_| panic!("it is there")).unwrap());
    let users = |layout: &Layout, _: &Path| {
        Ok(if layout.containers() == "/srv/containers" { vec![PathBuf::from("web")] } else { vec![] })
    };
    let error = host.store.remove(&id, &users).unwrap_err().to_string();
    assert!(error.contains("in use by `/srv/containers/web`"), "{error}");
    assert_eq!(elsewhere.users_of(&host.store.find(&id).unwrap(), &users).unwrap(), [Path::new("web")]);
}

#[test]
fn an_image_made_anew_leaves_the_old_one_to_those_who_need_it() {
    let host = host();
    let old = host.store.get_or_build(&spec("a"), write("old")).unwrap();
    let new = host.store.replace(&spec("a"), write("new")).unwrap();
    assert_eq!(new.id, format!("{}.2", old.id));
    assert_eq!((contents(&old).as_str(), contents(&new).as_str()), ("old", "new"));
    let taken = host.store.get_or_build(&spec("a"), |_| panic!("it is there")).unwrap();
    assert_eq!(taken.id, new.id);
    let superseded: Vec<_> = host.store.list().unwrap().iter().map(|image| image.superseded).collect();
    assert_eq!(superseded, [false, true]);

    let (old_rootfs, old_id, new_id) = (old.rootfs(), old.id.clone(), new.id.clone());
    assert!(host.store.sweep(&nobody).unwrap().is_empty(), "they are locked");
    drop((old, new, taken));
    let user = |_: &Layout, rootfs: &Path| Ok(if rootfs == old_rootfs { vec![PathBuf::from("web")] } else { vec![] });
    assert!(host.store.sweep(&user).unwrap().is_empty(), "`web` is layered on it");
    assert_eq!(host.store.sweep(&nobody).unwrap(), [Ok(old_id)]);
    assert_eq!(host.ids(), vec![new_id.clone()]);
    // The number goes on, so that no container finds another image where its own was.
    assert!(host.store.replace(&spec("a"), write("newer")).unwrap().id.ends_with(".3"));
}

#[test]
fn what_is_not_an_image_is_not_listed() {
    let host = host();
    let images = host.dir.path().join("var/cache/lxm/images");
    for name in ["notes", "0123456789ab.1", "0123456789ab.x", "0123456789ab.02", "0123456789AB", "0123456789ab"] {
        fs::create_dir_all(images.join(name)).unwrap();
    }
    assert!(host.ids().is_empty());
    assert_eq!(parse("0123456789ab.12"), Some(("0123456789ab", 12)));
}

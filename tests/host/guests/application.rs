//! Images of applications, made here: busybox and a command, in the layout of OCI's image specification.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::sandbox::run_checked;
use crate::support::{Outcome, Sandbox};

/// The host's static busybox under every name that it has, and nothing else: no init, no table of users.
pub fn tree(sandbox: &Sandbox, name: &str) -> PathBuf {
    let tree = sandbox.path(format!("trees/{name}"));
    for dir in ["bin", "sbin", "etc", "dev", "proc", "sys", "tmp", "run", "var", "root"] {
        fs::create_dir_all(tree.join(dir)).unwrap();
    }
    let busybox = run_checked("sh", &["-c", "command -v busybox"]);
    fs::copy(busybox.trim(), tree.join("bin/busybox")).unwrap();
    for applet in run_checked("busybox", &["--list"]).lines().filter(|applet| *applet != "busybox" && *applet != "init")
    {
        symlink("busybox", tree.join("bin").join(applet)).unwrap();
    }
    tree
}

/// Makes a container of a tree and the `config` of an image.
#[track_caller]
pub fn import(sandbox: &Sandbox, name: &str, tree: &Path, config: Value) -> Outcome {
    let dir = sandbox.path(format!("oci-{name}"));
    fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    let blob = |contents: &[u8], kind: &str| {
        let digest: String = Sha256::digest(contents).iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(dir.join("blobs/sha256").join(&digest), contents).unwrap();
        json!({ "mediaType": kind, "digest": format!("sha256:{digest}"), "size": contents.len() })
    };
    let archive = sandbox.path("layer.tar");
    run_checked("tar", &["-C", tree.to_str().unwrap(), "-cf", archive.to_str().unwrap(), "."]);
    let layer = blob(&fs::read(&archive).unwrap(), "application/vnd.oci.image.layer.v1.tar");
    let digests = [layer["digest"].clone()];
    let config = json!({
        "architecture": lxm::testing::types::Arch::host().to_string(), "os": "linux",
        "config": config, "rootfs": { "type": "layers", "diff_ids": digests },
    });
    let config = blob(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer] });
    let manifest = blob(manifest.to_string().as_bytes(), kind);
    fs::write(dir.join("index.json"), json!({ "schemaVersion": 2, "manifests": [manifest] }).to_string()).unwrap();
    fs::write(dir.join("oci-layout"), "{\"imageLayoutVersion\": \"1.0.0\"}").unwrap();
    sandbox.lxm(&["import", dir.to_str().unwrap(), "-n", name]).ok()
}

/// Writes down what it finds when it begins, and that it was asked to end.
pub const WITNESS: &str = "{ ip -4 -o addr show eth0; ip route; cat /etc/resolv.conf; } >/began; \
                           trap 'echo in order >/ended; exit 0' TERM; \
                           while :; do sleep 1 & wait; done";

/// A container whose one process is the witness.
#[track_caller]
pub fn witness(sandbox: &Sandbox, name: &str) {
    let tree = tree(sandbox, name);
    import(sandbox, name, &tree, json!({ "Cmd": ["/bin/sh", "-c", WITNESS], "Env": ["PATH=/bin"] }));
}

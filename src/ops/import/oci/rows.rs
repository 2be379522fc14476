//! Every setting of an image's configuration (OCI image specification, config.md), and docker's own
//! (moby, api/types/container/config.go).

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::{PublishedPort, range};
use crate::error::{Error, Result};
use crate::ops::import::foreign::{Hint, Translated};
use crate::ops::import::table::{self, Row, Setting, Taken};
use crate::types::{Signal, Size, Timeout};

/// An image's settings while they are read.
pub(super) struct ReadImage {
    pub made: Translated,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub working_dir: String,
    /// Where its programs are.
    pub path: Option<String>,
    pub stop_signal: Option<Signal>,
    memory_and_swap: Option<u64>,
}

impl ReadImage {
    /// Reads the object `config`. What is `null`, empty, 0 or false is as if it were not there.
    pub(super) fn of(settings: &serde_json::Map<String, Value>) -> Result<Self> {
        let mut read = ReadImage {
            made: Translated::new()?,
            entrypoint: Vec::new(),
            cmd: Vec::new(),
            working_dir: String::new(),
            path: None,
            stop_signal: None,
            memory_and_swap: None,
        };
        for (key, value) in settings {
            if is_nothing(value) {
                continue;
            }
            let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let setting = Setting {
                key: key.clone(),
                value: value.to_string(),
                text: format!("{key} {shown}"),
                is_shipped: false,
            };
            if let Some(wrong) = wrong_type(&setting) {
                return Err(Error::failed(format!("the image's `{key}` is damaged: {wrong}")));
            }
            let note = table::take(ROWS, &mut read, &setting);
            read.made.notes.extend(note);
        }
        let limits = &mut read.made.config.limits;
        if let (Some(both), Some(memory)) = (read.memory_and_swap, limits.memory) {
            limits.swap = Some(Size::from_bytes(both.saturating_sub(memory.bytes())));
        }
        Ok(read)
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// What a setting that is taken over has to be.
fn wrong_type(setting: &Setting) -> Option<String> {
    fn check<T: DeserializeOwned>(text: &str) -> Option<String> {
        serde_json::from_str::<T>(text).err().map(|e| e.to_string())
    }
    let text = &setting.value;
    match setting.key.as_str() {
        "Env" | "Entrypoint" | "Cmd" => check::<Vec<String>>(text),
        "User" | "WorkingDir" | "StopSignal" => check::<String>(text),
        "ExposedPorts" | "Volumes" => check::<BTreeMap<String, Value>>(text),
        _ => None,
    }
}

fn value<T: DeserializeOwned>(setting: &Setting) -> Option<T> {
    serde_json::from_str(&setting.value).ok()
}

/// Settings of the object `config`.
pub(super) const ROWS: &[Row<ReadImage>] = &[
    Row::takes("User", "root; others are lost: the guest's first process is its root", |_, setting| {
        let user: String = value(setting).unwrap_or_default();
        Taken::if_so(matches!(user.as_str(), "root" | "0" | "0:0" | "root:root"))
    }),
    Row::takes("Env", "`environment.NAME`; `PATH` for the image's command alone", env),
    Row::takes(
        "Entrypoint",
        "PID 1 with `Cmd` behind it, where the image has no init; else not run, and a note says so",
        |read, setting| {
            read.entrypoint = value(setting).unwrap_or_default();
            Taken::Over
        },
    ),
    Row::takes("Cmd", "as `Entrypoint`", |read, setting| {
        read.cmd = value(setting).unwrap_or_default();
        Taken::Over
    }),
    Row::takes("WorkingDir", "that of the image's command", |read, setting| {
        read.working_dir = value(setting).unwrap_or_default();
        Taken::Over
    }),
    Row::takes("ExposedPorts", "nothing: one note has the command that publishes them all", ports),
    Row::takes("Volumes", "part of its files, and a note says so", |read, setting| {
        let volumes: BTreeMap<String, Value> = value(setting).unwrap_or_default();
        read.made.notes.extend(volumes.keys().map(|volume| format!("its volume `{volume}` is part of its files")));
        Taken::Over
    }),
    Row::takes("Memory", "`limits.memory`", |read, setting| {
        let bytes = value::<u64>(setting).filter(|bytes| *bytes <= Size::MOST);
        read.made.config.limits.memory = bytes.map(Size::from_bytes);
        Taken::if_so(bytes.is_some())
    }),
    Row::takes("MemorySwap", "`limits.swap`: what is beyond `Memory`; -1 is no limit", |read, setting| {
        let bytes = value::<i64>(setting);
        read.memory_and_swap = bytes.and_then(|bytes| bytes.try_into().ok());
        Taken::if_so(bytes.is_some())
    }),
    Row::takes("CpuShares", "`limits.cpu-weight`", |read, setting| {
        let weight = value::<u64>(setting).map(|shares| (shares.saturating_mul(100) / 1024).max(1));
        read.made.config.limits.cpu_weight = weight.filter(|weight| range::WEIGHT.contains(weight));
        Taken::if_so(read.made.config.limits.cpu_weight.is_some())
    }),
    Row::takes("StopSignal", "`boot.stop-signal` where its command is PID 1; an init has its own", |read, setting| {
        read.stop_signal = value::<String>(setting).and_then(|signal| signal.parse().ok());
        Taken::if_so(read.stop_signal.is_some())
    }),
    Row::takes("StopTimeout", "`boot.stop-timeout`", |read, setting| {
        let seconds = value::<u32>(setting);
        read.made.config.boot.stop_timeout = seconds.map_or(Timeout::from_secs(60), |s| Timeout::from_secs(s.into()));
        Taken::if_so(seconds.is_some())
    }),
    Row::takes("NetworkDisabled", "no network", |read, _| {
        read.made.says_network = true;
        Taken::Over
    }),
    Row::lost("Healthcheck", "lxm asks no guest how it is; `lxm wait` and `lxm info` say whether it runs"),
    Row::lost("MacAddress", "a container gets addresses of its own: see `network.eth0.mac`"),
    Row::lost("Hostname Domainname", "the container's name is its host name"),
    Row::same("Labels", "nothing: about the image"),
    Row::same("ArgsEscaped Shell OnBuild Image", "nothing: how the image was built, or is built upon"),
    Row::same(
        "AttachStdin AttachStdout AttachStderr Tty OpenStdin StdinOnce",
        "nothing: every guest has a console (`lxm console`)",
    ),
];

/// What is beside `config`. None of it is read into anything but the container's record.
#[cfg(test)]
pub(super) const IMAGE_ROWS: &[Row<()>] = &[
    Row::same("architecture os", "an image that this host does not run is refused"),
    Row::same("variant os.version os.features", "nothing: what of the processor it needs, its programs say"),
    Row::same("config", "see below"),
    Row::same("rootfs history", "its layers, which are named and checked by the manifest"),
    Row::same(
        "created author comment id parent docker_version container container_config throwaway",
        "nothing: how the image was made",
    ),
];

fn env(read: &mut ReadImage, setting: &Setting) -> Taken {
    let mut others = Vec::new();
    for variable in value::<Vec<String>>(setting).unwrap_or_default() {
        match variable.split_once('=') {
            Some(("PATH", path)) if !path.contains('\0') => read.path = Some(path.to_owned()),
            Some((name, value)) if !name.is_empty() && !variable.contains('\0') => {
                read.made.config.environment.insert(name.to_owned(), value.to_owned());
            }
            _ => others.push(variable),
        }
    }
    read.made
        .notes
        .extend(others.iter().map(|variable| format!("not taken over: `Env {variable}`: it is no NAME=VALUE")));
    Taken::Over
}

fn ports(read: &mut ReadImage, setting: &Setting) -> Taken {
    let ports: BTreeMap<String, Value> = value(setting).unwrap_or_default();
    let mut others = Vec::new();
    for port in ports.into_keys() {
        let number = port.split('/').next().unwrap_or(&port);
        // What is proposed to be typed is a port and nothing else.
        match format!("{number}:{port}").parse::<PublishedPort>() {
            Ok(published) => {
                read.made.notes.push(format!("it listens on {}/{}", published.guest_port, published.protocol.name()));
                read.made.hints.push(Hint::Publish(published));
            }
            Err(_) => others.push(port),
        }
    }
    match others.is_empty() {
        true => Taken::Over,
        false => Taken::LostFor(format!("{} is no port", others.join(", "))),
    }
}

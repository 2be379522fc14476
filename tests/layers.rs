//! Claims about `tests/run-layers`: it tells apart what failed, what failed once, and what did not
//! run at all, and its exit status and last line say so.
//!
//! The layers that it runs here are made of real test programs: this one, which libtest-mimic
//! runs, and [`LIBTEST`], which Rust's own harness runs. [`MAKE`] stands for `make`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};

/// Names the directory of a run, to a copy of this program that is one of its layers.
const AS_LAYER: &str = "LXM_TESTS_LAYER_OF";

/// What a layer is, by its name; trials are told by `TRIALS=…`, as the Makefile takes it.
const MAKE: &str = r#"#!/bin/sh
for word; do
    case $word in
    test-*) layer=${word#test-} ;;
    TRIALS=*) trials=${word#TRIALS=} ;;
    esac
done
[ -n "$trials" ] || touch "$AT/began-$layer"
run() {
    echo "     Running $1" >&2
    "$@"
}
export RUST_BACKTRACE=0
case $layer in
unbuilt) echo 'error: could not compile `lxm`' >&2; exit 101 ;;
libtest) run "$AT/libtest" $trials ;;
killed) run "$AT/libtest" area::passes; run sh -c 'kill -9 $$' ;;
together) until [ -e "$AT/began-mimic" ]; do sleep 0.01; done; run "$AT/libtest" area::passes ;;
many) LXM_TESTS_FAILURES=21 LXM_TESTS_LAYER_OF=$AT run "$SELF" ;;
*) LXM_TESTS_LAYER_OF=$AT run "$SELF" ${trials:-${layer}::} ;;
esac
"#;

/// A program of Rust's own harness.
const LIBTEST: &str = r#"
mod area {
    #[test]
    fn passes() {}
    #[test]
    fn fails_once() {
        println!("failures:\n    misleading");
        let mark = std::path::Path::new(&std::env::var("AT").unwrap()).join("libtest-fails-once");
        assert!(mark.exists() || std::fs::write(mark, "").is_err(), "the first of libtest");
    }
    #[test]
    #[ignore]
    fn ignored() {}
}
"#;

fn main() -> ExitCode {
    let args = Arguments::from_args();
    if let Some(at) = std::env::var_os(AS_LAYER) {
        return libtest_mimic::run(&args, trials_of_a_layer(Path::new(&at))).exit_code();
    }
    let claim = |name, body: fn()| {
        Trial::test(name, move || {
            body();
            Ok(())
        })
    };
    let claims = vec![
        claim("layers::what_passes_is_counted", passing),
        claim("layers::what_fails_once_is_flaky_and_fails_nothing", flaky),
        claim("layers::what_fails_twice_fails_the_run", failing),
        claim("layers::what_does_not_build_or_dies_fails_the_run", broken),
        claim("layers::many_failures_are_not_tried_again", many),
        claim("layers::what_may_fail_counts_for_nothing", allowed),
        claim("layers::lanes_run_beside_each_other_and_do_not_mix_what_they_print", lanes),
        claim("layers::the_machine_is_measured", slowness),
        claim("layers::a_layer_of_the_makefile_takes_the_trials_to_run", makefile),
        claim("layers::unit_tests_that_root_runs_have_none_of_its_rights", as_nobody)
            .with_ignored_flag(!nix::unistd::geteuid().is_root()),
    ];
    libtest_mimic::run(&args, claims).exit_code()
}

/// The trials of this program as a layer.
fn trials_of_a_layer(at: &Path) -> Vec<Trial> {
    let many = std::env::var("LXM_TESTS_FAILURES").ok().and_then(|count| count.parse().ok()).unwrap_or(0);
    let always = |text: &'static str| move || Err(Failed::from(text));
    let mark = at.join("mimic-fails-once");
    let fails_once = move || match mark.exists() {
        true => Ok(()),
        false => fs::write(&mark, "").map_err(Failed::from).and(Err("the first of mimic\nfailures:\n    x".into())),
    };
    let mut trials = vec![
        Trial::test("mimic::passes", || Ok(())),
        Trial::test("mimic::fails_once", fails_once),
        Trial::test("mimic::is_ignored", || Ok(())).with_ignored_flag(true),
        Trial::test("good::passes", || Ok(())),
        Trial::test("bad::fails", always("each time of bad")),
    ];
    if many > 0 {
        trials = (0..many).map(|n| Trial::test(format!("many::{n}"), always("one of many"))).collect();
    }
    trials
}

/// What a run printed, its exit status, and the layers that it began.
struct Told {
    lines: Vec<String>,
    status: Option<i32>,
}

impl Told {
    #[track_caller]
    fn ends(&self, status: i32, last: &[&str]) {
        let end = self.lines.len().saturating_sub(last.len());
        assert!(self.status == Some(status) && self.lines[end..] == *last, "{self}");
    }

    fn place(&self, line: &str) -> usize {
        self.lines.iter().position(|it| it == line).unwrap_or_else(|| panic!("no `{line}` in\n{self}"))
    }

    fn has(&self, text: &str) -> bool {
        self.lines.iter().any(|line| line.contains(text))
    }
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Marked, so that it is not taken for the output of this program.
        writeln!(f, "status {:?}", self.status)?;
        self.lines.iter().try_for_each(|line| writeln!(f, "| {line}"))
    }
}

fn source_tree() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn run_layers(lanes: &[&str]) -> Told {
    let at = tempfile::tempdir().expect("make a temporary directory");
    let make = at.path().join("make");
    fs::write(&make, MAKE).expect("write the layers");
    fs::set_permissions(&make, fs::Permissions::from_mode(0o755)).expect("make it executable");
    if lanes.iter().any(|lane| ["libtest", "killed", "together"].iter().any(|layer| lane.contains(layer))) {
        build_libtest(at.path());
    }
    let mut command = Command::new(source_tree().join("tests/run-layers"));
    command.args(lanes).env("MAKE", make).env("AT", at.path()).env("LXM_TESTS_SLOWNESS", "1");
    command.env("SELF", std::env::current_exe().expect("know this program"));
    let output = command.output().expect("run run-layers");
    let text = [output.stdout, output.stderr].concat();
    let lines = String::from_utf8_lossy(&text).lines().map(str::to_owned).collect();
    Told { lines, status: output.status.code() }
}

fn build_libtest(at: &Path) {
    let source: PathBuf = at.join("libtest.rs");
    fs::write(&source, LIBTEST).expect("write a test program");
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2024", "--test", "-o"]).arg(at.join("libtest")).arg(source);
    let built = rustc.output().expect("run rustc");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}

fn passing() {
    run_layers(&["good"]).ends(0, &["1 passed, 0 failed, 0 skipped"]);
}

fn flaky() {
    let told = run_layers(&["mimic libtest"]);
    told.ends(0, &["2 flaky: find out why", "4 passed, 0 failed, 2 skipped"]);
    let listed = told.place("== FLAKY: mimic mimic::fails_once failed, and passed alone; it had said:");
    assert_eq!(told.lines[listed + 1], "    the first of mimic", "{told}");
    let listed = told.place("== FLAKY: libtest area::fails_once failed, and passed alone; it had said:");
    assert!(told.lines[listed..].iter().any(|line| line.ends_with("the first of libtest")), "{told}");
}

fn failing() {
    let told = run_layers(&["bad mimic good"]);
    told.ends(1, &["== failed twice: bad bad::fails", "1 flaky: find out why", "3 passed, 1 failed, 1 skipped"]);
}

fn broken() {
    let told = run_layers(&["unbuilt killed mimic"]);
    told.place("== failed: unbuilt did not build, or did not run to its end");
    told.place("== failed: killed did not build, or did not run to its end");
    told.ends(1, &["1 flaky: find out why", "3 passed, 2 failed, 1 skipped"]);
}

fn many() {
    let told = run_layers(&["many mimic"]);
    told.ends(1, &["== 22 failed: too many to be run again", "1 passed, 22 failed, 1 skipped"]);
    assert!(!told.has("again ") && !told.has("FLAKY"), "{told}");
}

fn allowed() {
    let told = run_layers(&["bad? unbuilt? good"]);
    told.place("== bad failed, which it may");
    told.ends(0, &["== unbuilt failed, which it may", "1 passed, 0 failed, 0 skipped"]);
}

fn lanes() {
    // It waits for the other lane to begin.
    let told = run_layers(&["together", "mimic"]);
    told.ends(0, &["1 flaky: find out why", "3 passed, 0 failed, 1 skipped"]);
    for (layer, trial) in [("together", "test area::passes ... ok"), ("mimic", "test mimic::passes")] {
        let begun = told.place(&format!("== {layer}"));
        let ended = begun + 1 + told.lines[begun + 1..].iter().position(|line| line.starts_with("== ")).unwrap();
        assert!(told.lines[ended].starts_with(&format!("== {layer}: ")), "{told}");
        assert!(told.lines[begun..ended].iter().any(|line| line.starts_with(trial)), "{told}");
    }
}

fn slowness() {
    let output = Command::new(source_tree().join("tests/slowness")).output().expect("measure the machine");
    let text = String::from_utf8_lossy(&output.stdout);
    let factor: f64 = text.trim().parse().unwrap_or_else(|e| panic!("{e}: `{text}`"));
    assert!((1.0..=20.0).contains(&factor), "{factor}");
}

fn makefile() {
    for layer in ["unit", "unit-root", "cli", "host", "systemd", "vm", "sid"] {
        let mut make = Command::new("make");
        make.args(["--dry-run", "--no-print-directory", &format!("test-{layer}"), "TRIALS=--exact area::trial"]);
        // It may itself be run by make.
        make.current_dir(source_tree()).env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
        let output = make.output().expect("run make");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let last = text.lines().last().unwrap_or_default();
        assert!(last.contains("cargo test") && last.ends_with(" --exact area::trial"), "{layer}: {text}");
    }
}

fn as_nobody() {
    let script = "id -u; id -G; sed -n 's/^CapEff:.//p' /proc/self/status; touch \"$TMPDIR/own\" \"$HOME/own\"; \
                  ! cat /etc/shadow 2>/dev/null; echo \"$TMPDIR\"; exit 7";
    let output = Command::new(source_tree().join("tests/as-nobody"))
        .args(["/bin/sh", "-ec", script])
        .current_dir(source_tree())
        .output()
        .expect("run as-nobody");
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(output.status.code(), Some(7), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(lines[..3], ["65534", "65534", "0000000000000000"], "{text}");
    assert!(!Path::new(lines[3]).exists(), "its directory is gone: {text}");
}
